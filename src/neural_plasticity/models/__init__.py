"""Transformer models with switchable heads: attach gates, remove heads for good, save and open the smaller model.

Importing this package registers the quantiser through which ``AutoModelForCausalLM.from_pretrained`` opens compact
models.
"""

from neural_plasticity.models.attach import Heads, attach
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.layouts import LayerLayout, ParameterSlices, layer_layouts
from neural_plasticity.models.loading import load_model
from neural_plasticity.models.protection import Protection
from neural_plasticity.models.saving import export_dense, load_pruned, save_pruned
from neural_plasticity.models.seam import AttentionCall, Probe
from neural_plasticity.models.size import ModelSize, model_size

__all__ = [
    "AttentionCall",
    "Heads",
    "LayerLayout",
    "ModelSize",
    "ParameterSlices",
    "Probe",
    "Protection",
    "attach",
    "compact",
    "export_dense",
    "layer_layouts",
    "load_model",
    "load_pruned",
    "model_size",
    "save_pruned",
]
