"""SIGHUP: all parts take the new file, or none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrwatch.commands import reload
from ctrwatch.commands.configured import Configured
from ctrwatch.commands.lines import Rendering
from ctrwatch.commands.reload import Part, Prepared, Reload
from ctrwatch.core.configuration import Configuration, Output
from ctrwatch.errors import InputError
from ctrwatch.outputs.lines import LineOutput


class World:
    """A file, two parts, and what became of them."""

    def __init__(self, path: Path, *, command: Configuration | None = None) -> None:
        self.path = path
        self.path.write_text("wait = 1")
        self.did: list[str] = []
        self.refuses = ""
        self.configured = Configured(path, command or Configuration())
        self.reload = Reload(
            self.configured,
            [self.part("one"), self.part("two")],
            lambda: self.did.append("reopen"),
            self.did.append,
        )

    def part(self, name: str) -> Part:
        async def prepare(before: Configuration, after: Configuration) -> Prepared:
            if self.refuses == name:
                raise InputError(f"{name} refuses")
            self.did.append(f"{name} prepares {before.wait} → {after.wait}")
            return Prepared(
                lambda: self.did.append(f"{name} changes"), lambda: self.did.append(f"{name} drops")
            )

        return prepare


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "c.toml")


async def test_all_are_prepared_before_any_is_changed(world: World) -> None:
    world.path.write_text("wait = 2\n[output]\nformat = 'text'")

    assert await world.reload.now()

    assert world.did == [
        "one prepares 1.0 → 2.0", "two prepares 1.0 → 2.0", "one changes", "two changes", "reopen",
        f"reloaded {world.path}: wait, output.format",
    ]  # fmt: skip
    assert world.configured.value.wait == 2


async def test_one_that_refuses_leaves_all_as_they_were(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.path.write_text("wait = 2")
    world.refuses = "two"

    assert not await world.reload.now()

    assert world.did == ["one prepares 1.0 → 2.0", "one drops", "reopen"]
    assert caplog.messages == ["two refuses; everything stays as it was"]
    assert world.configured.value.wait == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("wait = ", ":1: Invalid value"),
        ("wait = 2\nwiat = 1", ": wiat: no such key; did you mean wait?"),
        (
            "wait = 2\nraw = true\nstate = '/s'",
            ": raw, state: changed, and that takes a restart",
        ),
        (None, ": No such file or directory"),
    ],
)
async def test_a_file_that_is_wrong_is_not_even_shown_to_the_parts(
    world: World, content: str | None, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        world.path.unlink()
    else:
        world.path.write_text(content)

    assert not await world.reload.now()

    assert world.did == ["reopen"]  # a rotated log does not wait
    assert caplog.messages == [f"{world.path}{says}; everything stays as it was"]
    assert world.configured.value.wait == 1


async def test_what_the_command_line_set_stays(tmp_path: Path) -> None:
    world = World(tmp_path / "c.toml", command=Configuration(wait=5, sensor="ebpf"))
    world.path.write_text("wait = 2\nsensor = 'fanotify'")

    assert await world.reload.now()

    assert world.did[-1] == f"reloaded {world.path}: nothing has changed"
    assert (world.configured.value.wait, world.configured.value.sensor) == (5, "ebpf")


async def test_without_a_file_there_is_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrwatch.commands.configured.PATH", tmp_path / "c.toml")
    did: list[str] = []
    configured = Configured(None, Configuration())
    reloading = Reload(configured, [], lambda: did.append("reopen"), did.append)

    assert await reloading.now()
    assert did == ["reopen"]
    configured.path.write_text("wait = 7")
    assert await reloading.now()
    assert did[1:] == ["reopen", f"reloaded {configured.path}: wait"]


# --- the lines ----------------------------------------------------------------------------


async def test_lines_go_to_another_file(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    before, after = (Configuration(output=Output(path=str(path))) for path in paths)
    output = LineOutput.open_file(paths[0])
    part = reload.lines_part(Rendering(None, terminal=False, wall_offset_ns=lambda: 0), output)

    dropped = await part(before, after)
    dropped.drop()
    output.write(b"1\n")
    (await part(before, after)).change()
    output.write(b"2\n")
    (await part(after, after)).change()
    output.write(b"3\n")
    output.close()

    assert [path.read_bytes() for path in paths] == [b"1\n", b"2\n3\n"]


async def test_a_place_where_lines_can_not_go_refuses(tmp_path: Path) -> None:
    output = LineOutput.open_file(tmp_path / "a")
    part = reload.lines_part(Rendering(None, terminal=False, wall_offset_ns=lambda: 0), output)
    nowhere = Configuration(output=Output(path=str(tmp_path / "none" / "b")))

    with pytest.raises(InputError, match="none/b: No such file or directory"):
        await part(Configuration(output=Output(path=str(tmp_path / "a"))), nowhere)
    output.close()
