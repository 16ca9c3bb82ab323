"""How transformers opens a compact model: its quantiser registry lets us shape the layers before the weights load.

Importing this module registers the method "plasticity". `from_pretrained` then builds the original model without
weights, hands it to `PlasticityQuantizer`, and loads the smaller weights into what comes back. Nothing is quantised:
once open, the model is an ordinary one that can be trained, cast and saved again.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from neural_plasticity.errors import ModelError
from neural_plasticity.models.compaction import install_seams
from neural_plasticity.models.layouts import LayerLayout, layer_layouts, plasticity_record
from neural_plasticity.models.surgery import QUANT_METHOD, correct_counts, perform, plan_surgery, targets_of


@register_quantization_config(QUANT_METHOD)
class PlasticityConfig(QuantizationConfigMixin):
    """Only the method's name; which heads are left is in ``config.plasticity``, the one place that tells it."""

    def __init__(self, quant_method: str = QUANT_METHOD) -> None:
        self.quant_method = quant_method


@register_quantizer(QUANT_METHOD)
class PlasticityQuantizer(HfQuantizer):
    """Shapes the skeleton on the meta device; gives it its seams when the weights are there."""

    requires_calibration = False

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> Any:
        record = plasticity_record(model.config)
        if record is None:
            raise ModelError("config.json names the method 'plasticity' but has no 'plasticity' entry; save it again.")
        model.config.plasticity = None  # the skeleton is still the unpruned model
        with torch.device("cpu"):  # from_pretrained is on the meta device, where indices have no values
            layouts = layer_layouts(model)
            targets = targets_of(layouts, record)
            perform(model, plan_surgery(model, layouts, targets))
            correct_counts(model, layouts, targets)
        model.config.plasticity = dict(record)
        self.targets: tuple[LayerLayout, ...] = targets
        return model

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        """Seams hold buffers that no file has, so they come last. Then drop what marks a quantised model.

        transformers refuses ``.half()``, ``.float()`` and training of quantised models, none of which applies here;
        ``config.quantization_config`` stays, so that the model can be saved and opened again.
        """
        install_seams(model, self.targets)
        for name in ("hf_quantizer", "quantization_method", "is_quantized"):
            model.__dict__.pop(name, None)
        for module in model.modules():
            if hasattr(module, "config"):
                module.config.__dict__.pop("_is_quantized", None)
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True

    @property
    def is_qat_trainable(self) -> bool:
        return True

    @property
    def is_compileable(self) -> bool:
        return True
