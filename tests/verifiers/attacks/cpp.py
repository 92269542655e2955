"""C++ programs: what the compiler can be made to read or to burn, and what machine code can ask of the kernel."""

from __future__ import annotations

from typing import Any

from attacks.kit import Attack, stdio

_SECRET: dict[str, Any] = {"type": "stdio", "inputs": ["1\n"], "outputs": ["@SECRET@\n"]}
_DONE: dict[str, Any] = {"type": "stdio", "inputs": ["1\n"], "outputs": ["escaped\n"]}
_ANY = ("compile_error", "time_limit", "memory_limit", "output_limit", "runtime_error", "wrong_answer")


def _bomb(name: str, source: str, ends: tuple[str, ...] = _ANY, tests: Any = None, slow: bool = False) -> Attack:
    return Attack(name, source, "bomb", ends, tests or stdio(17), "cpp", slow)


COMPILING = [
    _bomb("includes_a_file_of_the_host", '#include "@OUTSIDE@/secret.txt"\nint main() {}\n', ("compile_error",)),
    _bomb("includes_the_password_file", '#include "/etc/passwd"\n#include </proc/self/environ>\nint main() {}\n',
          ("compile_error",)),
    _bomb("assembles_a_file_of_the_host", """
#include <cstdio>
asm(".section .rodata\\nfound: .incbin \\"@OUTSIDE@/secret.txt\\"\\n.byte 0\\n.text\\n");
extern "C" const char found[];
int main() { puts(found); }
""", _ANY, _SECRET),
    _bomb("includes_an_endless_file", '#include "/dev/zero"\nint main() {}\n', slow=True),
    _bomb("includes_its_own_input", '#include "/dev/stdin"\nint main() {}\n'),
    _bomb("includes_itself", "#include __FILE__\n#include __FILE__\nint main() {}\n", ("compile_error", "time_limit",
        "memory_limit")),
    _bomb("a_bomb_of_templates", """
template <int N, int M> struct A { static const long value = A<N - 1, M>::value + A<N - 1, M + N * 7>::value; };
template <int M> struct A<0, M> { static const long value = 1; };
int main() { return A<28, 0>::value; }
""", _ANY, slow=True),
    _bomb("a_bomb_of_macros", "#define A x x x x x x x x\n" + "".join(
        f"#define {chr(66 + n)} {' '.join([chr(65 + n)] * 8)}\n" for n in range(9)) + "int x; int main() { J; }\n",
            slow=True),
    _bomb("a_huge_array", "char big[1ull << 33] = {1};\nint main() { return big[5]; }\n", slow=True),
]

RUNNING = [
    _bomb("acts_before_main", """
#include <cstdio>
#include <unistd.h>
__attribute__((constructor)) void first() { write(1, "0\\n", 2); _exit(0); }
int main() {}
"""),
    _bomb("asks_the_kernel", """
#include <cstdio>
#include <unistd.h>
#include <sys/syscall.h>
int main() {
    const long calls[][4] = {{272, 0x10000000, 0, 0}, {41, 2, 1, 0}, {41, 1, 1, 0}, {101, 16, 1, 0}, {250, 0, -3, 1},
                             {425, 8, 0, 0}, {298, 0, 0, 0}, {321, 5, 0, 64}, {323, 0, 0, 0}, {319, 0, 0, 0},
                             {105, 0, 0, 0}, {161, (long)"/tmp", 0, 0}};
    bool out = false;
#ifdef __x86_64__
    for (auto &c : calls) out |= syscall(c[0], c[1], c[2], c[3], 0, 0) >= 0;
#endif
    puts(out ? "escaped" : "contained");
}
""", ("wrong_answer",), _DONE),
    _bomb("speaks_the_old_entry", """
#include <cstdio>
int main() {
    long result = -1;
    asm volatile("int $0x80" : "=a"(result) : "a"(20L), "b"(0L), "c"(0L), "d"(0L) : "memory");
    puts(result > 0 ? "escaped" : "contained");
}
""", ("wrong_answer", "runtime_error", "compile_error"), _DONE),
    _bomb("runs_a_shell", """
#include <cstdlib>
int main() { return system("echo @MARK@ > @OUTSIDE@/written; cat /etc/shadow; sleep 20 & exec sleep 0"); }
"""),
    _bomb("forks_in_machine_code", """
#include <unistd.h>
#include <sys/prctl.h>
int main() { prctl(PR_SET_NAME, "@MARK@"); for (int i = 0; i < 11; i++) fork(); sleep(20); }
"""),
    _bomb("takes_all_memory", """
#include <cstdlib>
#include <cstring>
int main() { for (int i = 0; i < 48; i++) { char *p = (char *)malloc(64 << 20); memset(p, 1, 64 << 20); } }
"""),
    _bomb("overflows_its_stack", "int f(int x) { volatile char a[4096]; a[0] = x; return f(x + 1) + a[0]; }\n"
          "int main() { return f(0); }\n"),
    _bomb("loops_for_ever", "#include <csignal>\nint main() { for (int i = 1; i < 64; i++) signal(i, SIG_IGN);\n"
          "volatile long n = 0; for (;;) n++; }\n", ("time_limit",)),
    _bomb("writes_for_ever",
        "#include <unistd.h>\nstatic char b[1 << 20];\nint main() { for (int i = 0; i < 1000; i++) "
          "write(1, b, sizeof b); }\n"),
    _bomb("reads_the_file_of_the_host", """
#include <fstream>
#include <iostream>
#include <string>
int main() { std::string s; std::ifstream("@OUTSIDE@/secret.txt") >> s; std::cout << s << std::endl; }
""", ("wrong_answer",), _SECRET),
]

CPP = [*COMPILING, *RUNNING]
