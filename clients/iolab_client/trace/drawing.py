"""Timelines as one SVG, on one scale of time: a lane for each client, below it one for each thread.

Time runs to the right. In a `fine` drawing each call is an element of its own that says which times and which call it
stands for (data-a and data-b in milliseconds, data-text), so that a page can zoom into it; else what is narrower than a
point is drawn together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from xml.sax import saxutils

from iolab.registry import MODELS
from iolab_client.trace import ink, telling
from iolab_client.trace.lanes import Passage, Stretch, ThreadLane, Timeline
from iolab_client.trace.meaning import Kind

WIDTH = 1000.0
# Where the time begins and ends.
LEFT, RIGHT = 138.0, 990.0
CLIENT_LANE, CLIENT_BAR = 18.0, 13.0
THREAD_LANE, THREAD_BAR = 25.0, 17.0
# Below the bar of a thread: a line for each client that it serves at that time.
SERVICE_LINE = 3.0
LINE = 15.0
# Fewer than this many ticks.
TICKS = 12
# So many calls that find nothing are said in the bar.
MANY = 10
# Of the text in a bar, at its size.
CHARACTER = 5.3
NARROW = 1.0


class _Sheet:
    """What is drawn so far, and how far down."""

    def __init__(self, timelines: Sequence[Timeline], span: float | None, *, fine: bool) -> None:
        self.begin = min(one.begin for one in timelines)
        self.end = max(max(one.end for one in timelines), span or 0.0)
        self.scale = (RIGHT - LEFT) / (self.end - self.begin)
        self.fine = fine
        self.y = 3.0
        self.parts: list[str] = []

    def x(self, moment: float) -> float:
        """Where a moment is, in points."""
        return LEFT + (moment - self.begin) * self.scale

    def add(self, part: str) -> None:
        """Draw on top of what is there."""
        self.parts.append(part)

    def text(self, x: float, y: float, text: str, names: str = "") -> None:
        """Words, on the base line y."""
        self.add(f"<text{_class(names)} x={_at(x)} y={_at(y)}>{_words(text)}</text>")

    def bar(
        self, names: str, start: float, end: float, y: float, height: float, text: str = "", least: float = 0
    ) -> None:
        """A rectangle for a stretch of time, `least` points wide at least."""
        x = self.x(start)
        width = max(self.x(end) - x, least)
        times = self._times(start, end, text)
        self.add(f"<rect{_class(names)} x={_at(x)} y={_at(y)} width={_at(width)} height={_at(height)}{times}/>")

    def line(
        self, names: str, start: float, y1: float, end: float, y2: float, marker: str = "", text: str = ""
    ) -> None:
        """A line from one moment in one lane to another in another."""
        tip = f' marker-end="url(#{marker})"' if marker else ""
        ends = f"x1={_at(self.x(start))} y1={_at(y1)} x2={_at(self.x(end))} y2={_at(y2)}"
        self.add(f"<line{_class(names)} {ends}{tip}{self._times(start, end, text)}/>")

    def label(self, text: str, start: float, end: float, y: float, names: str = "l") -> None:
        """Words in a bar, where they have room; a page that zooms makes it."""
        room = self.x(end) - self.x(start)
        needed = len(text) * CHARACTER + 4
        if self.fine or room >= needed:
            hidden = ' display="none"' if room < needed else ""
            times = self._times(start, end, "")
            self.add(
                f'<text class="u {names}" x={_at(self.x(start) + 3)} y={_at(y)}{hidden}{times}>{_words(text)}</text>'
            )

    def _times(self, start: float, end: float, text: str) -> str:
        if not self.fine:
            return ""
        said = f' data-text="{_words(text)}"' if text else ""
        return f' data-a="{start:g}" data-b="{end:g}"{said}'


def draw(timelines: Sequence[Timeline], *, fine: bool = False, span: float | None = None) -> str:
    """The SVG. `span` (milliseconds) is how far its time goes at least, so that several drawings have one scale."""
    sheet = _Sheet(timelines, span, fine=fine)
    _legend(sheet, timelines)
    top = sheet.y
    sheet.y += LINE - 3
    for one in timelines:
        _panel(sheet, one)
    _notes(sheet, timelines)
    height = sheet.y + 4
    heading = telling.heading(timelines)
    description = " ".join(sentence for one in timelines for sentence in telling.sentences(one))
    grid = "".join(_grid(sheet, top))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-labelledby="title desc"><title id="title">{_words(heading)}</title>'
        f'<desc id="desc">{_words(description)}</desc><style>{ink.style_sheet()}</style><defs>{ink.PATTERNS}{_tips()}'
        f'</defs><rect class="p" width="{WIDTH:g}" height="{height:g}"/>{grid}{"".join(sheet.parts)}</svg>\n'
    )


def _legend(sheet: _Sheet, timelines: Sequence[Timeline]) -> None:
    """What the bars mean, in two lines: the clients' and the threads'."""
    bars = [("k q", "asked, nobody has read it", 22), ("k a", "read, not answered yet", 22), ("k b", "answered", 3.5)]
    _legend_line(sheet, f"client (each answer takes {timelines[0].wait_ms} ms)", bars)
    waits = [(ink.CLASSES[kind], kind.value, 22.0) for kind in Kind if kind.waits]
    runs = (ink.CLASSES[Kind.RUNS], "runs, or is ready to", 12)
    x = _legend_line(sheet, "thread", [*waits, runs, ("k b", "moves a client's bytes", 2.5)])
    ends = f"x1={_at(x)} y1={_at(sheet.y)} x2={_at(x + 12)} y2={_at(sheet.y - 9)}"
    sheet.add(f'<line class="w" {ends} marker-end="url(#tip)"/>')
    sheet.text(x + 18, sheet.y, "wakes", "u")
    sheet.y += 8


def _legend_line(sheet: _Sheet, whose: str, bars: Iterable[tuple[str, str, float]]) -> float:
    """A line of the legend: classes, words and width of each bar. Returns where the next one would be."""
    sheet.y += LINE
    sheet.text(8, sheet.y, whose, "u")
    x = LEFT + 42
    for names, words, width in bars:
        sheet.add(f"<rect{_class(names)} x={_at(x)} y={_at(sheet.y - 9)} width={_at(width)} height={_at(10)}/>")
        sheet.text(x + width + 4, sheet.y, words, "u")
        x += width + 14 + len(words) * 4.9
    return x


def _panel(sheet: _Sheet, one: Timeline) -> None:
    """One model: its clients, then its threads, then the lines between them."""
    top = sheet.y + 14
    summary = f' <tspan class="y">{_words(MODELS[one.model].summary)}</tspan>' if one.model in MODELS else ""
    sheet.add(f'<text class="h" x="8" y={_at(top)}>{_words(one.model)}{summary}</text>')
    sheet.y = top + 7
    clients = sorted({passage.client for passage in one.passages})
    rows = {}
    for client in clients:
        rows[client] = sheet.y
        _client(sheet, client, [passage for passage in one.passages if passage.client == client])
    sheet.y += 4
    processes = [name for name in dict.fromkeys(lane.process for lane in one.lanes) if name]
    lanes = {}
    for lane in one.lanes:
        lanes[lane.key] = sheet.y
        number = f" ({processes.index(lane.process) + 1})" if len(processes) > 1 else ""
        _thread(sheet, lane, f"{lane.name}{number}", one.passages)
    for passage in one.passages:
        _between(sheet, passage, rows[passage.client] + CLIENT_BAR, lanes)
    for wake in one.wakes:
        if wake.sender in lanes and wake.receiver in lanes:
            down = lanes[wake.receiver] > lanes[wake.sender]
            sheet.line(
                "w",
                wake.sent,
                lanes[wake.sender] + (THREAD_BAR if down else 0),
                wake.woken,
                lanes[wake.receiver] + (0 if down else THREAD_BAR),
                "tip",
                f"wakes, through a {wake.through}" if wake.through != "eventfd" else "wakes, through an eventfd",
            )
    if one.quiet:
        for words in telling.wrapped(telling.quiet(one.quiet), 150):
            sheet.y += LINE - 3
            sheet.text(LEFT, sheet.y - 2, words, "u")
    sheet.y += 8


def _client(sheet: _Sheet, client: int, passages: Iterable[Passage]) -> None:
    """A client's lane: each of its messages from when it was asked to when it was answered."""
    y, colour = sheet.y, ink.hue(client)
    sheet.text(LEFT - 8, y + 11, f"client {client}", "e")
    for passage in passages:
        said = (
            f"client {client} waits {passage.answered - passage.sent:.1f} ms for the answer to {passage.text.strip()!r}"
        )
        read = passage.read
        if read is not None:
            sheet.bar(f"{colour} q", passage.sent, read, y + 0.5, CLIENT_BAR - 1, f"{said}: not read yet")
        begin = passage.sent if read is None else read
        sheet.bar(f"{colour} a", begin, passage.answered, y + 0.5, CLIENT_BAR - 1, f"{said}: read")
        sheet.bar(f"{colour} b", passage.answered, passage.answered, y - 1, CLIENT_BAR + 2, said, 3.5)
        sheet.label(f"{passage.answered - passage.sent:.0f} ms", passage.sent, passage.answered, y + 10)
    sheet.y += CLIENT_LANE


def _thread(sheet: _Sheet, lane: ThreadLane, name: str, passages: Sequence[Passage]) -> None:
    """A thread's lane: what it does, and below it whose message it has read and not answered."""
    y = sheet.y
    sheet.text(LEFT - 8, y + 12.5, name, "e")
    for block in blocks(lane.stretches, 0.0 if sheet.fine else NARROW / sheet.scale):
        text = block.text or block.kind.value
        sheet.bar(ink.CLASSES[block.kind], block.start, block.end, y, THREAD_BAR, text, 1 if block.kind.waits else 1.4)
        if block.kind.waits:
            sheet.label(block.call, block.start, block.end, y + 12)
        elif block.vain >= MANY:
            sheet.label(f"asks {block.vain} times in vain", block.start, block.end, y + 12, "i")
    last: dict[int, float] = {}
    for stretch in lane.stretches:
        if stretch.kind == Kind.MOVES:
            # Of what would cover each other one is drawn.
            place = sheet.x(stretch.end)
            if sheet.fine or place - last.get(stretch.client, -9.0) > 2:
                last[stretch.client] = place
                names = f"{ink.hue(stretch.client)} b"
                sheet.bar(names, stretch.start, stretch.end, y - 2, THREAD_BAR + 4, stretch.text, 2.2)
    for moment, signal in lane.signals:
        sheet.bar("k b", moment, moment, y - 2, THREAD_BAR + 4, f"takes {signal}", 1.2)
        sheet.text(sheet.x(moment) + 2, y + 4, signal, "u l")
    own = [one for one in passages if one.reader == one.replier == lane.key and one.read and one.replied]
    shown = sorted({one.client for one in own})
    for one in own:
        assert one.read is not None
        assert one.replied is not None
        place = y + THREAD_BAR + 1 + SERVICE_LINE * min(shown.index(one.client), 4)
        text = f"client {one.client}, message {one.number}: read, not answered yet"
        sheet.bar(f"{ink.hue(one.client)} b", one.read, one.replied, place, SERVICE_LINE - 0.8, text)
    sheet.y += THREAD_LANE + SERVICE_LINE * max(0, min(len(shown), 5) - 2)


def blocks(stretches: Iterable[Stretch], least: float) -> Iterator[Stretch]:
    """What is drawn as bars: each wait of at least `least` milliseconds; whatever is between two of these, runs.

    With no `least`, every call.
    """
    open_block: Stretch | None = None
    for stretch in stretches:
        if not least:
            if stretch.kind != Kind.MOVES:
                yield stretch
            elif stretch.end > stretch.start:
                yield Stretch(
                    kind=Kind.RUNS, start=stretch.start, end=stretch.end, call=stretch.call, text=stretch.text
                )
            continue
        wide = stretch.kind.waits and stretch.end - stretch.start >= least
        same = open_block is not None and (
            (wide and open_block.kind == stretch.kind and open_block.call == stretch.call)
            or (not wide and open_block.kind == Kind.RUNS)
        )
        if same and open_block is not None:
            open_block = replace(open_block, end=stretch.end, vain=open_block.vain + stretch.vain)
            continue
        if open_block is not None:
            yield open_block
        open_block = Stretch(
            kind=stretch.kind if wide else Kind.RUNS,
            start=stretch.start,
            end=stretch.end,
            call=stretch.call if wide else "",
            text=stretch.text if wide else "",
            vain=stretch.vain,
        )
    if open_block is not None:
        yield open_block


def _between(sheet: _Sheet, passage: Passage, y: float, lanes: dict[str, float]) -> None:
    """A message's way to the thread that reads it, and the answer's way back."""
    colour = f"{ink.hue(passage.client)} v"
    if passage.read is not None and passage.reader in lanes:
        sheet.line(colour, passage.read, y, passage.read, lanes[passage.reader] - 1, "tip")
    if passage.replied is not None and passage.replier in lanes:
        sheet.line(colour, passage.replied, lanes[passage.replier], passage.replied, y + 1, "tip")


def _notes(sheet: _Sheet, timelines: Sequence[Timeline]) -> None:
    for words in telling.wrapped(telling.caution(timelines), 185):
        sheet.y += LINE - 2
        sheet.text(8, sheet.y - 2, words, "u")


def _grid(sheet: _Sheet, top: float) -> Iterator[str]:
    """A line at each round number of milliseconds, below all else."""
    step = next(
        step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 60000, 600000)
        if (sheet.end - sheet.begin) / step <= TICKS or step == 600000
    )  # fmt: skip
    bottom = sheet.y - LINE
    moment, tick = 0.0, "tick " if sheet.fine else ""
    while moment <= sheet.end:
        x, times = sheet.x(moment), f' data-a="{moment:g}" data-b="{moment:g}"' if sheet.fine else ""
        yield f'<line class="{tick}g" x1={_at(x)} y1={_at(top + 2)} x2={_at(x)} y2={_at(bottom)}{times}/>'
        yield f'<text class="{tick}u" x={_at(x + 2)} y={_at(top + 9)}{times}>{moment:g} ms</text>'
        moment += step


def _tips() -> str:
    return (
        '<marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
        '<path class="z" d="M0 0L6 3L0 6z"/></marker>'
    )


def _words(text: str) -> str:
    """Text as XML may have it: a thread's name, and what clients send, hold any character."""
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return saxutils.escape(plain, {'"': "&quot;"})


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""


def _at(value: float) -> str:
    return f'"{round(value, 1):g}"'
