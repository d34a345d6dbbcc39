"""Summaries over seeds and paired differences."""

from qbench.stats.summary import CONFIDENCE as CONFIDENCE
from qbench.stats.summary import PairedDifference as PairedDifference
from qbench.stats.summary import Summary as Summary
from qbench.stats.summary import paired_difference as paired_difference
from qbench.stats.summary import summarize as summarize
from qbench.stats.summary import t_half_width as t_half_width
