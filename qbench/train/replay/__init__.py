"""Training steps, and forward passes, that are recorded and replayed.

recorder: the operators of a step. asides, contents: what a step does past them. tape: the step from its operators.
native: its kernels as calls of the C++ library on memory laid out beforehand. scene: what else decides about a step.
trial: a tape is tried before it is used. steps: which steps and passes are replayed.
"""

from qbench.train.replay.steps import MAX_UNSETTLED, VARIABLE, InferenceReplay, Replay, is_allowed

__all__ = ["MAX_UNSETTLED", "VARIABLE", "InferenceReplay", "Replay", "is_allowed"]
