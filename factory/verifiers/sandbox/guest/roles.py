"""What a sandbox is for: `functions` and `tests` talk in messages (descriptors 3 and 4), the others are programs.

A program gets `{"source" …}` on descriptor 3, its input on 0, and writes its output to 4, which becomes its 1:

- `python` runs source as `__main__`, with what the interpreter does at exit;
- `cpp` compiles source, as C++20 where it is no C++17, and writes the program file to its output;
- `binary` becomes a program file that was compiled before (the bytes themselves are what descriptor 3 brings).
"""

from __future__ import annotations

import atexit
import builtins
import io
import os
import sys
import threading
import traceback
import types
from typing import Any

IN, OUT = 3, 4
_CPP = ("-O2", "-pipe", "-w", "-pthread", "-fmax-errors=5", "-fno-diagnostics-show-caret", "-o", "/tmp/program",
        "/tmp/main.cpp", "/tmp/stacks.cpp")
_STANDARDS = ("-std=gnu++17", "-std=gnu++2a")
_THREAD_STACK = 8 << 20
# A thread's stack is by default as large as the main one may grow, which here is all the memory that there is.
_STACKS = f"""#include <pthread.h>
__attribute__((constructor)) static void stacks() {{
    pthread_attr_t each;
    if (pthread_attr_init(&each) == 0 && pthread_attr_setstacksize(&each, {_THREAD_STACK}) == 0)
        pthread_setattr_default_np(&each);
}}
"""


def play(kind: str, limits: dict[str, Any]) -> None:
    """Be that. Functions and tests never return."""
    if kind in ("functions", "tests"):
        _open_streams()
        threading.stack_size(_THREAD_STACK)
        if kind == "functions":
            from factory.verifiers.sandbox.guest import functions

            functions.serve(IN, OUT)
        from factory.verifiers.sandbox.guest import tests

        tests.serve(IN, OUT)
    with open(IN, "rb") as file:
        source = file.read()
    os.dup2(OUT, 1)
    os.close(OUT)
    if kind == "python":
        os._exit(run_main(source))
    if kind == "binary":
        with open("/tmp/program", "wb") as file:
            file.write(source)
        os.chmod("/tmp/program", 0o700)
        os.execve("/tmp/program", ["program"], {"PATH": "/usr/bin", "HOME": "/tmp"})
    os._exit(_compile(source))


def _open_streams() -> None:
    from _sitebuiltins import Quitter

    builtins.exit = Quitter("exit", "Ctrl-D")
    builtins.quit = Quitter("quit", "Ctrl-D")
    for name, number, mode, errors in (("stdin", 0, "rb", "surrogateescape"), ("stdout", 1, "wb", "surrogateescape"),
                                       ("stderr", 2, "wb", "backslashreplace")):
        stream = io.TextIOWrapper(os.fdopen(number, mode, closefd=False), encoding="utf-8", errors=errors,
                                  line_buffering=number == 2)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run_main(source: bytes) -> int:
    """Run Python source as the main program; its exit code."""
    _open_streams()
    threading.stack_size(_THREAD_STACK)
    sys.argv = ["main.py"]
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    code = 0
    try:
        exec(compile(source, "main.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        if end.code is not None:
            code = end.code if isinstance(end.code, int) else 1
            if code is not end.code:
                print(end.code, file=sys.stderr)
    except BaseException as error:
        code = 1
        # Without the frames of this harness; the last lines are what is shown.
        lines = traceback.format_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        sys.stderr.write("".join(lines)[-4000:])
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except BaseException:
        code = code or 1
    return code & 255


def _compile(source: bytes) -> int:
    import subprocess

    with open("/tmp/main.cpp", "wb") as file:
        file.write(source)
    with open("/tmp/stacks.cpp", "w") as file:
        file.write(_STACKS)
    for standard in _STANDARDS:
        done = subprocess.run(["/usr/bin/g++", standard, *_CPP], stdin=subprocess.DEVNULL, check=False,
                              capture_output=True, env={"PATH": "/usr/bin", "HOME": "/tmp", "LC_ALL": "C"})
        if done.returncode == 0:
            break
    else:
        os.write(2, done.stderr[:16384])
        return 1
    with open("/tmp/program", "rb") as file:
        while block := file.read(1 << 16):
            view = memoryview(block)
            while view:
                view = view[os.write(1, view):]
    return 0
