"""`troth plan`: what a run or a fleet takes, before it is bought. Each kind of plan is a file of its own."""

import typer

from troth.cli.plan_check import plan_check
from troth.cli.plan_serve import plan_serve
from troth.cli.plan_train import plan_train

app = typer.Typer(help="Say what a run or a fleet takes before it is bought.", no_args_is_help=True)
app.command("train")(plan_train)
app.command("serve")(plan_serve)
app.command("check")(plan_check)


@app.callback()
def plan() -> None:
    """Say what a run or a fleet takes before it is bought."""
