"""Reading sizes from ELF files, and filling a section of one. Source: System V Application Binary Interface, chapter 4 (object files)."""

from __future__ import annotations

import struct

from edgecc.errors import EdgeccError

SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4


def code_bytes(data: bytes) -> int | None:
    """Bytes of machine code in a 64- or 32-bit ELF file: all sections that are loaded and executable.

    Returns None where the data is no ELF file (other systems have other formats).
    """
    if data[:4] != b"\x7fELF" or len(data) < 52:
        return None
    wide = data[4] == 2
    order = "<" if data[5] == 1 else ">"
    try:
        if wide:
            (table,) = struct.unpack_from(order + "Q", data, 40)
            entry_size, count = struct.unpack_from(order + "HH", data, 58)
        else:
            (table,) = struct.unpack_from(order + "I", data, 32)
            entry_size, count = struct.unpack_from(order + "HH", data, 46)
        total = 0
        for index in range(count):
            start = table + index * entry_size
            # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size
            fields = struct.unpack_from(order + ("IIQQQQ" if wide else "IIIIII"), data, start)
            if fields[2] & SHF_ALLOC and fields[2] & SHF_EXECINSTR:
                total += fields[5]
    except struct.error:
        return None
    return total


def with_section(data: bytes, name: str, content: bytes) -> bytes:
    """A 64-bit little-endian ELF file in which the section called `name` holds `content`, which is as long as it was.

    Raises: EdgeccError E900 where there is no such section of this length.
    """
    (table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count, names = struct.unpack_from("<HHH", data, 58)

    def header(index: int) -> tuple[int, ...]:
        return struct.unpack_from("<IIQQQQ", data, table + index * entry_size)

    first = header(names)[4]
    for index in range(count):
        own_name, _, _, _, offset, size = header(index)
        start = first + own_name
        if data[start:data.index(b"\0", start)] == name.encode("ascii") and size == len(content):
            return b"".join((data[:offset], content, data[offset + size:]))
    raise EdgeccError("E900", f"the object file has no section {name} of {len(content)} bytes")
