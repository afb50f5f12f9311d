"""Where the files of a plain tar lie, so that they can be read in any order.

``tarfile`` would do, but it takes three times as long and accepts a damaged or missing header as the end of the
archive, so that a shard that was cut would only look smaller. Format: POSIX.1-2001 pax, "ustar interchange format", and
GNU tar's long names and base-256 sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gigagan.errors import UserError

BLOCK = 512  # bytes: headers are one block, data is padded to whole ones
RECORD = 20 * BLOCK  # GNU tar and Python's tarfile pad the end mark, two blocks of zeros, to whole records

# Type flags of headers.
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices and folders, whatever their size says


class Member(NamedTuple):
    """A regular file in a tar: its name, and where its data lies, in bytes."""

    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The regular files in the uncompressed tar at ``path``, in order.

    Raises:
        UserError: ``path`` is a folder, or the file breaks off before the archive's end mark (zeros), holds more behind
            it than padding, or holds something that is no tar header. It names the byte and the last whole member.
    """
    if path.is_dir():
        raise _broken(path, "is a folder, not a tar")
    total = path.stat().st_size
    last = "before its first file"
    at = 0
    name, size = None, None  # from an extended header, for the member that follows it
    with open(path, "rb", buffering=0) as tar:
        while True:
            tar.seek(at)
            header = tar.read(BLOCK)
            if len(header) < BLOCK:
                raise _broken(path, f"breaks off at byte {total:,}, {last}")
            if header.count(0) == BLOCK:
                # Downloads set aside their room first: zeros are also what never came. Some writers leave out the
                # second block of the end mark.
                rest = tar.read(BLOCK + RECORD + 1)
                if len(rest) > BLOCK + RECORD or any(rest):
                    raise _broken(path, f"has a block of zeros at byte {at:,}, {last}, but does not end there")
                return
            if not _checksum_holds(header):
                what = "is damaged" if at else "is not a plain tar: the damage starts"
                raise _broken(path, f"{what} at byte {at:,}, {last}")
            kind = header[156:157]
            at += BLOCK
            try:
                stored = size if size is not None else _number(header[124:136])
                if stored < 0:
                    raise ValueError("negative size")
                if at + stored > total:
                    raise _broken(path, f"breaks off at byte {total:,}, {last}")
                if kind == b"x":
                    records = _pax_records(tar.read(stored))
                    name, size = records.get(b"path"), int(records[b"size"]) if b"size" in records else None
                elif kind == b"L":  # GNU's long name
                    name = tar.read(stored).rstrip(b"\0")
            except ValueError:
                raise _broken(path, f"is damaged at byte {at:,}, {last}") from None

            if kind in _REGULAR:
                text = (name or _name(header)).decode("utf-8", "surrogateescape")
                yield Member(text, at, stored)
                last = f"after {text}"
                name, size = None, None
            elif kind in _WITHOUT_DATA:
                name, size, stored = None, None, 0
            at += -(-stored // BLOCK) * BLOCK


def name_before(path: Path, offset: int) -> str:
    """The name in the header of the member whose data starts at ``offset`` (cut to 100 characters in some tars)."""
    with open(path, "rb") as tar:
        tar.seek(offset - BLOCK)
        return _name(tar.read(BLOCK)).decode("utf-8", "replace")


def _broken(path: Path, how: str) -> UserError:
    return UserError(f"{path} {how}; fetch or write this shard again, or take it out of the folder")


def _checksum_holds(header: bytes) -> bool:
    try:
        stated = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return stated == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: too large for octal digits
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _pax_records(body: bytes) -> dict[bytes, bytes]:
    """``LENGTH KEY=VALUE\\n`` records, where LENGTH is that of the whole record in bytes."""
    records = {}
    while body:
        digits = body[: body.index(b" ")]
        length = int(digits)
        if not len(digits) < length <= len(body):
            raise ValueError("pax record out of bounds")
        key, _, value = body[len(digits) + 1 : length - 1].partition(b"=")
        records[key], body = value, body[length:]
    return records
