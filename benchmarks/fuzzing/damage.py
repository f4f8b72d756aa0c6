"""Damage to a file: to its bytes, its words, its lines, to the values that it holds, and to what
it is in the file system."""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

Change = Callable[[bytes, Random], bytes]
"""Damage that leaves a file one of its kind."""

_LARGE = 3 << 30
"""Bytes of a file that is none of ours: a video that was named by mistake."""
_DEEP = 10_000
_NUMBERS = (-1, 0, 0.5, 2, 1e6, 1e-9)
"""By what a number is multiplied to be another one."""
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\x00\x00\xfe\xff")

WORDS = (
    *(b"nan", b"inf", b"-inf", b"-1", b"0", b"-0.0", b"1e-320", b"1e400", b"1e300", b"true"),
    *(b"9" * 5000, b"1" + b"0" * 400, b"9223372036854775808", b"4294967296", b"0.5", b"1_0"),
    *(b"", b'"', b"'", b"[" * 3000, b"{" * 3000, b"x" * 10_000, b"1x1", b",", b"#"),
    *(b"\x1b]0;title\x07\x1b[2J", b"\x00", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80"),
    *("\u2028\u0085".encode(), "\u202e\u0661".encode(), b"\r", b"/dev/zero", b"/", b"../.."),
)
"""Words that a file of numbers and names should not have."""
JSON_VALUES = (
    *("NaN", "Infinity", "-Infinity", "1e400", "1e300", "1e-320", "-1", "0", "1", "0.5", "-0.0"),
    *("9" * 5000, "1" + "0" * 400, "9223372036854775808", "4294967296", "true", "false", "null"),
    *('""', "[]", "{}", "[null]", '{"": 0}', '"0"', '"nan"', '"1e400"', '"ms"', '"cpu"'),
    *('"\\ud800"', '"\\u001b]0;t\\u0007"', '"\\u0000"', '"a\\nb"', '"\\u202e<b>"', "[[[[1]]]]"),
    *('"' + "x" * 10_000 + '"', "[" * _DEEP + "]" * _DEEP, '{"a":' * 500 + "1" + "}" * 500),
    *('"/dev/zero"', '"/"', '"/proc/self/mem"', '"' + "a/" * 3000 + '"', '"mini@32"'),
)
TOML_VALUES = (
    *(b"nan", b"-nan", b"inf", b"-inf", b"1e400", b"1e300", b"1e-320", b"-1", b"0", b"1", b"0.5"),
    *(b"9" * 5000, b"1" + b"0" * 400, b"9223372036854775808", b"4294967296", b"2147483647"),
    *(b"2", b"8", b"16", b"1.0", b"100000", b"[3, 5]", b'"onnxruntime"', b'"local"', b'"replay"'),
    *(b"true", b'""', b'"nan"', b"[]", b"{}", b"[[1]]", b"[1, 1]", b"[0]", b"[-1, 2]", b"['']"),
    *(b"1979-05-27", b"07:32:00", b"0xff", b"'''\n'''", b'"\\u001b]0;t\\u0007"', b'"a\\nb"'),
    *(b'"\\u0000"', b'"' + b"x" * 10_000 + b'"', b"[" * _DEEP + b"]" * _DEEP, b"{a=" * 3000),
    *(b'"/dev/zero"', b'"/"', b'"' + b"a/" * 3000 + b'"', "'\u202e\u2028'".encode(), b'"cpu"'),
)
YAML_VALUES = (
    *(b".nan", b".inf", b"-.inf", b"1e400", b"1e300", b"1e-320", b"-1", b"0", b"0x10", b"1:30"),
    *(b"9" * 5000, b"1" + b"0" * 400, b"1_000", b"null", b"~", b"''", b"[]", b"{}", b"[1]"),
    *(b"&a 1", b"*a", b"!!python/name:os.system 1", b"|\n  1", b"{" * 3000, b"[" * 3000),
    *(b"- 1", b"? 1", b"--- 1", b"%YAML 9", b"\t1", b'"\\x1b]0;t\\x07"', b"x" * 10_000),
)


def damaged(content: bytes, generator: Random, changes: Sequence[Change]) -> bytes:
    """Damaged as a row of bytes, or by one of the changes; pure noise now and then."""
    chance = generator.random()
    if chance < 0.03:
        return generator.randbytes(generator.randrange(2000))
    if chance < 0.05:
        return generator.choice(_MARKS) + content
    if chance < 0.06:
        return content.decode("latin-1").encode(generator.choice(["utf-16", "utf-32"]))
    if chance < 0.7 and changes:
        return generator.choice(changes)(content, generator)
    return rebyted(content, generator)


def rebyted(content: bytes, generator: Random) -> bytes:
    """Bytes changed, cut out, put in, doubled; the rest cut off."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 8)):
        if not data:
            break
        place = generator.randrange(len(data))
        how = generator.randrange(5)
        if how == 0:
            data[place] = generator.randrange(256)
        elif how == 1:
            del data[place : place + generator.randint(1, 60)]
        elif how == 2:
            data[place:place] = generator.randbytes(generator.randint(1, 12))
        elif how == 3:
            data[place:place] = data[place : place + generator.randint(1, 400)]
        else:
            del data[place:]
    return bytes(data)


def reworded(content: bytes, generator: Random) -> bytes:
    """A text with other words between its commas, blanks, colons and hyphens."""
    words = re.split(rb"([-,: =\n]+)", content)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(0, len(words), 2)
        words[place] = generator.choice([*WORDS, words[generator.randrange(0, len(words), 2)]])
    return b"".join(words)


def relined(content: bytes, generator: Random) -> bytes:
    """A text whose lines are left out, doubled, put elsewhere or joined."""
    lines = content.splitlines(keepends=True)
    for _ in range(generator.randint(1, 3)):
        if not lines:
            break
        place, other = (generator.randrange(len(lines)) for _ in range(2))
        how = generator.randrange(4)
        if how == 0:
            del lines[place : place + generator.randint(1, 3)]
        elif how == 1:
            lines.insert(other, lines[place])
        elif how == 2:
            lines[place], lines[other] = lines[other], lines[place]
        else:
            lines[place] = lines[place].rstrip(b"\r\n")
    return b"".join(lines)


def reassigned(values: Sequence[bytes]) -> Change:
    """A text of lines `name = value` or `name: value`, some of which have one of `values`, or the
    name or the value of another line."""
    assignment = re.compile(rb"(?m)^([ \t]*)([^\n#=:]+?)([ \t]*[=:][ \t]*)([^\n]*)$")

    def change(content: bytes, generator: Random) -> bytes:
        for _ in range(generator.choice([1, 1, 2, 3])):
            found = list(assignment.finditer(content))
            if not found:
                break
            one, other = generator.choice(found), generator.choice(found)
            how = generator.randrange(6)
            name = other[2] if how == 0 else generator.choice(WORDS) if how == 1 else one[2]
            value = other[4] if how == 2 else one[4] if how < 2 else generator.choice(values)
            line = one[1] + name + one[3] + value
            content = content[: one.start()] + line + content[one.end() :]
        return content

    return change


def revalued(content: bytes, generator: Random) -> bytes:
    """A document in JSON with other values, or lacking some."""
    document = changed(json.loads(content), generator, [f"@{n}@" for n in range(len(JSON_VALUES))])
    text = re.sub('"@([0-9]+)@"', lambda found: JSON_VALUES[int(found[1])], json.dumps(document))
    return text.encode()


def revalued_lines(content: bytes, generator: Random) -> bytes:
    """JSON lines, one of which has other values."""
    lines = content.splitlines(keepends=True)
    place = generator.randrange(len(lines))
    lines[place] = revalued(lines[place], generator) + b"\n"
    return b"".join(lines)


def changed(document: Any, generator: Random, values: Sequence[Any]) -> Any:
    """Nested lists and dictionaries, in a copy, with other values in some places: one of `values`,
    that of another place, a thousand of it, or none. What is nearer to the top is likelier."""
    document = [deepcopy(document)]
    for _ in range(generator.choice([1, 1, 2, 3])):
        container, key = _place(document, generator)
        chance = generator.random()
        if chance < 0.15 and container is not document:
            del container[key]
        elif chance < 0.25:
            elsewhere, there = _place(document, generator)
            container[key] = deepcopy(elsewhere[there])
        elif chance < 0.3:
            container[key] = [container[key]] * 1000
        elif chance < 0.35 and isinstance(container[key], list):
            container[key] = container[key] * 3
        elif chance < 0.55 and isinstance(container[key], int | float):
            container[key] = generator.choice(_NUMBERS) * container[key]
        else:
            container[key] = generator.choice(values)
    return document[0]


def _place(document: Any, generator: Random) -> tuple[Any, Any]:
    container, key = document, 0
    while isinstance(container[key], list | dict) and container[key] and generator.random() < 0.75:
        container = container[key]
        names = list(container) if isinstance(container, dict) else range(len(container))
        key = generator.choice(names)
    return container, key


def put(path: Path, content: bytes, generator: Random) -> None:
    """Write a file, in whose place there is something else now and then: a folder, a link to
    nowhere or to itself, nothing, or a file far too large to be one of ours."""
    removed(path)
    chance = generator.random()
    if chance < 0.003:
        with path.open("wb") as file:
            file.write(content)
            file.truncate(_LARGE)
    elif chance < 0.006:
        path.mkdir()
    elif chance < 0.009:
        path.symlink_to(generator.choice([path, path.parent / "nowhere"]))
    elif chance > 0.99:
        path.write_bytes(b"")
    else:
        path.write_bytes(content)


def removed(path: Path) -> None:
    """Make room for a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
