"""The page of 65,536 features in a browser without a GPU: its size, its first picture, the map moving, search."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personascope.directions.axis import role_space_of
from personascope.drift.conversation import analyze_file, write_run
from personascope.drift.options import DriftOptions
from personascope.drift.summary import read_summaries, summary_table
from personascope.explorer.bundle import Settings, write_explorer
from personascope.formats.contexts import AFTER, BEFORE
from personascope.formats.conversations import read_conversations
from personascope.formats.features import FeatureRows, write_features
from personascope.formats.files import write_json, write_jsonl
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import METADATA_KEY, save_npz, write_csv, write_table
from personascope.formats.tokens import TokenBlock, token_writer
from tests.benchmarks.common import ROOT, ROUNDS, Row
from tests.helpers.axis_tables import role_names, simulated_tables
from tests.helpers.drift_cases import null_of, reference_of
