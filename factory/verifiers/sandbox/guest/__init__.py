"""What runs inside a room: standard library only, sent in as source text. The host imports only `values` of it."""
