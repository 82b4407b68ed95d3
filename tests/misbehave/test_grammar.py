"""What a script says, and what one that says nothing is answered with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iolab.misbehave import grammar
from iolab.misbehave.grammar import BadScript, Clause, parse


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("answer", grammar.Reply(None)),
        ("answer 2", grammar.Reply(2)),
        ("ignore", grammar.Ignore(1)),
        ("ignore 3", grammar.Ignore(3)),
        ("wait 100ms", grammar.Wait(0.1)),
        ("wait 1.5s", grammar.Wait(1.5)),
        ("wait 2m", grammar.Wait(120)),
        ("drip 1 every 10ms", grammar.Drip(1, 0.01)),
        ("drip 4KiB every 1s", grammar.Drip(4096, 1)),
        ("corrupt", grammar.Corrupt(0)),
        ("corrupt 5", grammar.Corrupt(5)),
        ("double", grammar.Double()),
        ("swap", grammar.Swap()),
        ("cut 10", grammar.Cut(10)),
        ("fin", grammar.Fin()),
        ("reset", grammar.Reset()),
        ("close", grammar.Close()),
        ("never-accept", grammar.NeverAccept()),
        ("never-read", grammar.NeverRead()),
        ("never-answer", grammar.NeverAnswer()),
        ("banner 220 mail.example ready", grammar.Banner(b"220 mail.example ready")),
        ('banner "a;b|c \\x00\\n\\\\\\""', grammar.Banner(b'a;b|c \0\n\\"')),
        ("banner grüße", grammar.Banner("grüße".encode())),
    ],
)
def test_every_verb_is_understood(text: str, verb: grammar.Verb) -> None:
    assert parse(text) == ((Clause(verb),),)
    if not isinstance(verb, grammar.NeverAccept):
        assert parse(f"  30 % :  {text}  ") == ((Clause(verb, 30),),)


def test_scripts_stand_side_by_side_and_clauses_one_after_the_other() -> None:
    assert parse("answer 2; 0.5%: reset; answer 1; repeat | close;\n|\tswap") == (
        (
            Clause(grammar.Reply(2)),
            Clause(grammar.Reset(), 0.5),
            Clause(grammar.Reply(1)),
            Clause(grammar.Repeat()),
        ),
        (Clause(grammar.Close()),),
        (Clause(grammar.Swap()),),
    )


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 1, "got the end, expected a verb"),
        ("answr", 1, "got 'answr', expected a verb: answer [N]"),
        ("answer x", 8, "got 'x', expected a number of messages"),
        ("answer 0", 8, "got '0', expected a number of messages, from 1"),
        ("answer 1 2", 10, "got '2', expected ';', '|' or the end"),
        ("answer 1; ; reset", 11, "got ';', expected a verb"),
        ("answer | ", 10, "got the end, expected a verb"),
        ("wait 5", 6, "got '5', expected a time with its unit"),
        ("wait 0s", 6, "expected a time above 0"),
        ("wait 2d", 6, "expected a time with its unit"),
        ("wait", 5, "got the end, expected a time"),
        ("drip 1 10ms", 8, "got '10ms', expected 'every'"),
        ("drip 1KB every 1s", 6, "got '1KB', expected a size"),
        ("cut", 4, "got the end, expected a number of bytes"),
        ("cut 64", 5, "from 1 to 63"),
        ("corrupt 64", 9, "from 0 to 63"),
        ("banner", 7, "got the end, expected a text"),
        ('banner "open', 8, "expected a text"),
        (r'banner "\q"', 9, r"expected one of \n"),
        ("0%: reset", 1, "expected a percentage"),
        ("101%: reset", 1, "expected a percentage"),
        ("30% reset", 1, "expected a verb"),
        ("reset; answer", 8, "nothing can follow the previous clause"),
        ("answer; never-accept", 9, "never-accept as the only clause"),
        ("50%: never-accept", 6, "never-accept without a percentage"),
        ("repeat", 1, "a clause before repeat"),
        ("wait 1s; repeat", 10, "expected a clause that reads or sends something before repeat"),
        ("answer 99999999999999999999", 8, "expected a number of messages"),
        ("answer 1\0", 8, "got '1\\x00', expected"),
    ],
)
def test_a_bad_script_is_one_line_with_the_place_and_what_was_expected(text: str, place: int, expected: str) -> None:
    with pytest.raises(BadScript) as raised:
        parse(text, 64)
    line = str(raised.value)
    assert line.startswith(f"script, character {place}: ")
    assert expected in line
    assert line.isprintable()


@given(st.text(alphabet=st.sampled_from(list('answer 5;|%:"\\xdripevy0ms\n\0ü')), max_size=60) | st.text(max_size=60))
def test_whatever_is_said_is_a_script_or_one_line(text: str) -> None:
    line = ""
    try:
        assert all(parse(text))
    except BadScript as error:
        line = str(error)
    assert line.isprintable()
