"""What each child of the campaign would have to import and prepare: done once, in the process they are forked from."""

import transformers.generation.utils
import transformers.models.gpt2.modeling_gpt2  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import neural_plasticity.experiment
import neural_plasticity.session  # noqa: F401
import tests.small_runs  # noqa: F401

get_checkpoint_conversion_mapping("gpt2")  # 900 regular expressions, kept
