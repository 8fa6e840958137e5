"""The table of moves, the scripts and the store say the same; keys and scripts keep their rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from django_kue import keys, scripts
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.ids import new_keys
from django_kue.jobs import Job
from django_kue.states import MOVES, State, mermaid
from django_kue.store import moves, reads
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, completed, failed, job_of, new_jobs, put_one, snapshot

LUA = sorted(scripts.FOLDER.rglob("*.lua"))
TOP = sorted(path.stem for path in scripts.FOLDER.glob("*.lua"))
VERBS = {"promote": "promote", "cancel": "cancel", "retry": "requeue", "remove": "remove"}


def test_every_move_of_the_table_has_its_script_and_no_other_script_is_a_move() -> None:
    files = {path.stem for path in (scripts.FOLDER / "moves").glob("*.lua")}
    assert files | {"enqueue"} == set(MOVES)
    assert (scripts.FOLDER / "enqueue.lua").exists()


@pytest.mark.parametrize("move", sorted(set(MOVES) - {"enqueue"}))
def test_a_moves_script_says_from_where_to_where_as_the_table_does(move: str) -> None:
    first = (scripts.FOLDER / "moves" / f"{move}.lua").read_text().splitlines()[0]
    said, _, after = first.removeprefix("-- ").partition(" -> ")
    sources, targets = MOVES[move]
    names = set(State)
    if said == "any state":
        assert sources == names
    else:
        assert set(re.findall("|".join(State), said)) == sources - (
            {State.ACTIVE} if move == "cancel" else set()
        ) - ({State.DELAYED} if move == "expire" else set())
    assert set(re.findall("|".join(State), re.split("[:.]", after)[0])) == targets


def test_the_diagram_shows_every_row_of_the_table() -> None:
    diagram = mermaid()
    for name, move in MOVES.items():
        for source in move.sources:
            for target in move.targets:
                assert f"{source} --> {target}: {name}" in diagram


# ── the matrix of verbs and states ──


def _waiting() -> str:
    return put_one()


def _delayed() -> str:
    return put_one(delay=3_600_000)


def _active() -> str:
    put_one()
    return Hands().take_one()


def _finished(outcome: bytes) -> str:
    put_one()
    hands = Hands()
    key = hands.take_one()
    hands.settle(key, outcome)
    return key


def _cancelled() -> str:
    key = put_one()
    job_of(key).cancel()
    return key


IN_STATE: dict[State, Callable[[], str]] = {
    State.WAITING: _waiting,
    State.DELAYED: _delayed,
    State.ACTIVE: _active,
    State.COMPLETED: lambda: _finished(completed({"rows": 3})),
    State.FAILED: lambda: _finished(failed()),
    State.CANCELLED: _cancelled,
}
PAIRS = [(verb, state) for verb in [*VERBS, "set_priority"] for state in State]


def _ask(job: Job, verb: str) -> Job | None:
    return job.set_priority(7) if verb == "set_priority" else getattr(job, verb)()


@pytest.mark.parametrize(("verb", "state"), PAIRS)
def test_a_verb_does_what_the_table_allows_and_else_raises_and_changes_nothing(
    verb: str, state: State
) -> None:
    key = IN_STATE[state]()
    job = job_of(key)
    assert job.state is state
    before = snapshot("default")
    if verb == "set_priority" or state in MOVES[VERBS[verb]].sources:
        after = _ask(job, verb)
        assert snapshot("default") != before
        if after is not None:
            assert job_of(key).state is after.state
            assert job_of(key).priority == after.priority
            if verb == "set_priority" or (verb == "cancel" and state is State.ACTIVE):
                assert after.state is state
            else:
                assert after.state in MOVES[VERBS[verb]].targets
    else:
        with pytest.raises(IllegalTransition, match=rf"{job.id}.*it's {state}"):
            _ask(job, verb)
        assert snapshot("default") == before


@pytest.mark.parametrize("verb", [*VERBS, "set_priority"])
def test_a_verb_on_a_job_that_is_gone_raises_and_changes_nothing(verb: str) -> None:
    key = put_one()
    job = job_of(key)
    job.remove()
    put_one()
    before = snapshot("default")
    with pytest.raises(JobDoesNotExist, match=job.id):
        _ask(job, verb)
    assert snapshot("default") == before


@pytest.mark.parametrize(("verb", "state"), PAIRS)
async def test_the_async_twin_of_a_verb_answers_as_the_verb_does(verb: str, state: State) -> None:
    from asgiref.sync import sync_to_async

    job = await sync_to_async(lambda: job_of(IN_STATE[state]()))()
    other = await sync_to_async(lambda: job_of(IN_STATE[state]()))()

    def said() -> object:
        try:
            return _ask(job, verb)
        except IllegalTransition as error:
            return str(error).replace(job.id, "")

    async def asaid() -> object:
        try:
            twin = getattr(other, f"a{verb}")
            return await (twin(7) if verb == "set_priority" else twin())
        except IllegalTransition as error:
            return str(error).replace(other.id, "")

    one, two = await sync_to_async(said)(), await asaid()
    if isinstance(one, Job):
        assert isinstance(two, Job)
        assert (one.state, one.priority, one.attempts_made) == (two.state, two.priority, two.attempts_made)
    else:
        assert one == two


# ── the scripts' own rules ──


def _code(path: Path) -> str:
    return re.sub(r"--.*", "", path.read_text())


def test_no_local_of_a_script_hides_the_name_of_an_argument() -> None:
    """A local at the top level named as an argument would make every later use of that name mean it."""
    for name in TOP:
        script = scripts.load(name)
        names = {word.replace("...", "_at") for word in script.arguments}
        body = script.source.decode().split("\n")[len(script.arguments) :]
        for line in body:
            if match := re.match(r"local (?:function )?([\w, ]+)", line):
                defined = {word.strip() for word in match[1].split(",")}
                assert not defined & names, f"{name}.lua: {line}"


def test_no_script_defines_a_name_at_its_top_level_twice() -> None:
    for name in TOP:
        defined: list[str] = []
        for line in scripts.load(name).source.decode().split("\n"):
            if match := re.match(r"local (?:function )?([\w, ]+?)(?: =|\(|$)", line):
                defined += [word.strip() for word in match[1].split(",")]
        twice = {word for word in defined if defined.count(word) > 1}
        assert not twice, f"{name}.lua: {twice}"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_a_script_names_its_keys_and_arguments_and_never_counts_positions(path: Path) -> None:
    code = _code(path)
    assert "KEYS[" not in code
    for index in re.findall(r"ARGV\[([^\]]+)\]", code):
        assert not index.isdigit(), f"ARGV[{index}]"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_no_script_scans_all_keys_makes_code_or_formats_texts(path: Path) -> None:
    code = _code(path)
    assert not re.search(r"'(KEYS|FLUSHALL|FLUSHDB|EVAL|CONFIG)'", code)
    assert "'SCAN'" not in code or path.stem == "audit_keys"  # a slice at a time
    assert "loadstring" not in code
    for format_ in re.findall(r"string\.format\(([^,]+),", code):
        assert re.fullmatch(r"'\(?%d'", format_), f"string.format with {format_}"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_a_script_s_header_lists_the_keys_that_it_uses(path: Path) -> None:
    text = path.read_text()
    listed = [word for line in re.findall(r"^-- KEYS: (.+)$", text, re.M) for word in line.split()]
    assert sorted(listed) == sorted({*re.findall(r"\bKEYS\.(\w+)", _code(path))})
    unknown = {*listed} - {*keys.QUEUE_KEYS, *keys.GLOBAL_KEYS}
    assert not unknown, "keys.py has no such names"


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_a_key_is_named_only_behind_keys(path: Path) -> None:
    """A bare name would be a global that doesn't exist, which stops the script in the middle, there only."""
    code = re.sub(r"'[^']*'", "''", _code(path))
    words = re.findall(r"(?<![\w.])(\w+)\b(?! *=[^=])", code)  # but for the fields of a table
    assert not {*words} & {*keys.QUEUE_KEYS, *keys.GLOBAL_KEYS}
    assert not re.search(r"\bKEYS\b(?!\.\w)", code)


@pytest.mark.parametrize("name", TOP)
def test_a_script_s_keys_are_one_queue_s_or_none_is(name: str) -> None:
    """And there's one, by which a Cluster's node is found."""
    named = {*scripts.load(name).keys}
    assert named
    assert named <= {*keys.QUEUE_KEYS} or named <= {*keys.GLOBAL_KEYS}


@pytest.mark.parametrize("name", TOP)
def test_each_name_of_a_key_has_become_its_place(name: str) -> None:
    script = scripts.load(name)
    source = re.sub(
        r"KEYS\[(\d+)\]", lambda match: f"KEYS.{script.keys[int(match[1]) - 1]}", script.source.decode()
    )
    for text in scripts._with_includes(name, {}).values():
        assert re.sub(r"^\s*--.*\n", "", text, flags=re.M) in source


@pytest.mark.parametrize("name", TOP)
def test_redis_compiles_every_script(name: str) -> None:
    assert redis_client().script_load(scripts.load(name).source) == scripts.load(name).digest.decode()


def test_all_keys_of_a_queue_share_its_hash_tag_and_no_two_are_the_same() -> None:
    for name in keys.QUEUE_KEYS:
        assert re.search(r"\{(.*?)\}", keys.of_queue("kue", "email", name))[1] == "email"  # type: ignore[index]
    assert len(set(keys.QUEUE_KEYS.values())) == len(keys.QUEUE_KEYS)
    tags = {re.search(r"\{(.*?)\}", keys.of_all("kue", name))[1] for name in keys.GLOBAL_KEYS}  # type: ignore[index]
    assert tags == {"kue"}


def test_no_prefix_of_keys_begins_another_key() -> None:
    """Else ``waiting .. priority`` could be a job's logs."""
    prefixes = [suffix for suffix in keys.QUEUE_KEYS.values() if suffix.endswith(":")]
    for prefix in prefixes:
        others = [suffix for suffix in keys.QUEUE_KEYS.values() if suffix != prefix]
        assert not [other for other in others if other.startswith(prefix)]


def test_a_call_passes_the_keys_of_one_slot_only() -> None:
    owner = moves.owner("w1")
    calls = [
        moves.enqueue("email", new_jobs(new_keys(2)), sender=b"s", number=1),
        moves.enqueue("email", new_jobs(new_keys(2), delay=1000), sender=b"s", number=1),
        moves.turn("email", owner, want=1, sequence=1, batches={}),
        moves.beat("email", owner),
        moves.sync("email", owner, []),
        moves.bury("email", owner, {}),
        moves.report("email", []),
        moves.verb("cancel", "email", [new_keys(1)[0]]),
        moves.empty("email"),
        moves.clean("email", State.FAILED, 1),
        moves.pause("email", paused=True),
        reads.rows("email", []),
        reads.counts("email"),
        reads.facts("email"),
    ]
    for one in calls:
        assert {re.search(rb"\{(.*?)\}", key)[1] for key in one.keys} == {b"email"}  # type: ignore[index]


def test_a_script_begins_with_its_arguments_by_name() -> None:
    for name in TOP:
        script = scripts.load(name)
        lines = script.source.decode().split("\n")
        for place, word in enumerate(script.arguments, 1):
            expected = f"{word[:-3]}_at = {place}" if word.endswith("...") else f"{word} = ARGV[{place}]"
            assert lines[place - 1] == f"local {expected}"


@pytest.mark.parametrize("name", ["enqueue", "standby", "turn", "moves/claim", "moves/complete", "lib/wake"])
def test_what_is_called_for_each_plain_job_or_turn_gives_redis_no_numbers(name: str) -> None:
    """Up to 7.0 it would write them as floating-point first."""
    code = re.sub(r"string\.format\('%d', [^()]*\)", "''", _code(scripts.FOLDER / f"{name}.lua"))
    calls = re.findall(r"redis\.p?call\((.*)", code)
    assert calls
    assert not [call for call in calls if re.search(r", -?\d+ *[,)]", call)]
