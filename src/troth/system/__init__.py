"""The one configuration: a system is one TOML file, a table for each part."""

from troth.system.curate import CurateTable
from troth.system.cycle import CycleTable
from troth.system.data import DataTable, Stage
from troth.system.parallel import Layout, ParallelTable, lay_out
from troth.system.serve import AutoscalingTable, ServeTable
from troth.system.system import System, load_system, named_systems
from troth.system.train import LoRATable, PreferenceTable, TrainTable

__all__ = [
    "AutoscalingTable", "CurateTable", "CycleTable", "DataTable", "Layout", "LoRATable", "ParallelTable",
    "PreferenceTable", "ServeTable", "Stage", "System", "TrainTable", "lay_out", "load_system", "named_systems",
]  # fmt: skip
