"""What a person sees of a training run, on standard error: a live bar in a terminal, a line now and then elsewhere."""

from types import TracebackType

from troth.train.metrics import Metrics


def line(m: Metrics) -> str:
    """A report in at most 98 letters, so that a short title and a bar beside it fit into 120 columns."""
    rate = f"{m.tokens_per_second:,.0f}" if m.tokens_per_second < 1e6 else f"{m.tokens_per_second / 1e6:,.1f}M"
    mfu = "" if m.mfu is None else f"  MFU {m.mfu:.1%}"
    dead = f", {m.dead_experts} dead" if m.dead_experts else ""
    state = f"load {m.load_entropy:.2f}{dead}"
    if "accuracy" in m.figures:
        state = f"margin {m.figures['margin']:.2f}  accuracy {m.figures['accuracy']:.0%}"
    if "mtp_loss" in m.figures:
        state = f"mtp {m.figures['mtp_loss']:.2f}  {dead.removeprefix(', ') or state}"
    return (
        f"step {m.step}/{m.steps}  loss {m.loss:.3f}  {rate} tokens/s{mfu}  "
        f"{state}  {duration(m.seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """`3:05` minutes, `2 h 03` or `5 d 02 h`."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02d} h"
    return f"{hours} h {minutes % 60:02d}" if hours else f"{minutes}:{int(seconds) % 60:02d}"


def held_out_line(m: Metrics) -> str | None:
    """What a report says of what is held out: `held-out loss 3.214 (pages 3.402, prose 3.117)`."""
    if (loss := m.figures.get("held_out_loss")) is None:
        return None
    parts = [f"{name.partition('/')[2]} {value:.3f}" for name, value in m.figures.items() if "held_out_loss/" in name]
    if "held_out_accuracy" in m.figures:
        parts = [f"margin {m.figures['held_out_margin']:.2f}", f"accuracy {m.figures['held_out_accuracy']:.0%}"]
    return f"step {m.step}/{m.steps}  held-out loss {loss:.3f}" + (f" ({', '.join(parts)})" if parts else "")


class Progress:
    """Use as a context manager and call it with each report."""

    def __init__(self, title: str):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self.title = title
        self.console = Console(stderr=True, highlight=False)
        self.shown = -1
        columns = TextColumn("{task.description}"), BarColumn(8), TextColumn("{task.fields[state]}")
        self.bar = Bar(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(title, total=None, state="starting")

    def __call__(self, m: Metrics) -> None:
        """Show one report."""
        state = line(m)
        self.bar.update(self.task, total=m.steps, completed=m.step, state=state)
        tenth = m.step * 10 // m.steps
        if not self.console.is_terminal and tenth > self.shown:
            self.shown = tenth
            self.console.print(f"{self.title}  {state}", soft_wrap=True)
        if told := held_out_line(m):
            self.console.print(f"{self.title}  {told}", soft_wrap=True)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
