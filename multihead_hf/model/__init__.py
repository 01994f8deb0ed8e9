"""Files saved with every model: they need torch, transformers and the standard library only.

Importing this package registers multi-head models with transformers, whose `AutoModel` and `pipeline` then load them.
"""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_multihead import MultiHeadConfig
from .modeling_multihead import MultiHeadModel
from .pipeline_multihead import MultiHeadPipeline
from .storage_multihead import TASK

# the first two register the classes with transformers, the next two copy their code into saved folders
AutoConfig.register(MultiHeadConfig.model_type, MultiHeadConfig)
AutoModel.register(MultiHeadConfig, MultiHeadModel)
MultiHeadConfig.register_for_auto_class()
MultiHeadModel.register_for_auto_class("AutoModel")
PIPELINE_REGISTRY.register_pipeline(TASK, MultiHeadPipeline, pt_model=AutoModel, type="text")
