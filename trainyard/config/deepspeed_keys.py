"""The keys of a DeepSpeed JSON at every depth, with the types of their values, and those that cannot be used here.

DeepSpeed passes over what it does not know at the top, and fails in the ranks over what it does not know below. The
tables are those of DeepSpeed 0.19; a test compares them with the classes of the installed version.
"""

from typing import Any

_OFFLOADED = {"device": str, "nvme_path": str, "buffer_count": int, "pin_memory": bool}

ZERO: dict[str, Any] = {
    "stage": int, "contiguous_gradients": bool, "reduce_scatter": bool, "reduce_bucket_size": int,
    "use_multi_rank_bucket_allreduce": bool, "allgather_partitions": bool, "allgather_bucket_size": int,
    "overlap_comm": bool, "compute_grad_norm": bool, "load_from_fp32_weights": bool, "elastic_checkpoint": bool,
    "offload_param": {**_OFFLOADED, "buffer_size": int, "max_in_cpu": int},
    "offload_optimizer": {
        **_OFFLOADED, "pipeline_read": bool, "pipeline_write": bool, "fast_init": bool, "ratio": float,
        "super_offload": bool, "cpuadam_cores_perc": float,
    },
    "zenflow": {
        "topk_ratio": float, "select_strategy": str, "select_interval": Any, "update_interval": Any,
        "overlap_step": bool, "offload": bool, "auto_ratio": float, "full_warm_up_rounds": int,
        "pt_reserved_cores_perc": float, "steps_per_epoch": int,
    },
    "sub_group_size": int, "ignore_unused_parameters": bool, "legacy_stage1": bool, "round_robin_gradients": bool,
    "parameter_alignment": bool, "zero_hpz_partition_size": int, "zero_quantized_weights": bool,
    "zero_quantized_nontrainable_weights": bool, "zero_quantized_gradients": bool, "memory_efficient_linear": bool,
    "pipeline_loading_checkpoint": bool, "override_module_apply": bool, "log_trace_cache_warnings": bool,
    "enable_sanity_checks": bool, "save_muon_momentum_buffer_in_memory": bool,
    "leaf_module": {"classes": list, "names": list, "name_suffixes": list},
    **{
        f"{prefix}{name}": kind
        for prefix in ("", "stage3_")
        for name, kind in {
            "prefetch_bucket_size": int, "param_persistence_threshold": int, "model_persistence_threshold": int,
            "max_live_parameters": int, "max_reuse_distance": int, "gather_16bit_weights_on_model_save": bool,
            "module_granularity_threshold": int, "use_all_reduce_for_fetch_params": bool,
            "allgather_sequential": bool,
        }.items()
    },
}  # fmt: skip

RENAMED = {
    "cpu_offload": 'write "offload_optimizer": {"device": "cpu"}',
    "cpu_offload_param": 'write "offload_param": {"device": "cpu"}',
    "cpu_offload_use_pin_memory": "write pin_memory inside offload_optimizer",
    "stage3_gather_fp16_weights_on_model_save": "write stage3_gather_16bit_weights_on_model_save",
}
"""Keys of zero_optimization under their old names, with what replaces them."""

BF16 = {
    "enabled": bool, "immediate_grad_update": bool, "check_grad_overflow": bool,
    "bf16_master_weights_and_grads": bool, "bf16_optimizer_states": bool,
}  # fmt: skip
FP16 = {
    "enabled": bool, "auto_cast": bool, "loss_scale": float, "initial_scale_power": int, "loss_scale_window": int,
    "hysteresis": int, "consecutive_hysteresis": bool, "min_loss_scale": int, "fp16_master_weights_and_grads": bool,
}  # fmt: skip

_ADAM = {
    "lr": float, "betas": list, "eps": float, "weight_decay": float, "bias_correction": bool, "adam_w_mode": bool,
    "torch_adam": bool, "amsgrad": bool, "fp32_optimizer_states": bool, "set_grad_none": bool, "foreach": bool,
}  # fmt: skip
_PLAIN = {"lr": float, "weight_decay": float, "foreach": bool, "maximize": bool}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": _ADAM,
    "adamw": _ADAM,
    "muon": {**_ADAM, "momentum": float, "ns_method": str, "muon_lr": float, "adam_lr": float},
    "lion": {"lr": float, "betas": list, "weight_decay": float},
    "sgd": {**_PLAIN, "momentum": float, "dampening": float, "nesterov": bool, "fused": bool},
    "rmsprop": {**_PLAIN, "momentum": float, "alpha": float, "eps": float, "centered": bool},
    "nadam": {**_PLAIN, "betas": list, "eps": float, "momentum_decay": float, "decoupled_weight_decay": bool},
    "radam": {**_PLAIN, "betas": list, "eps": float, "decoupled_weight_decay": bool},
    "adamax": {**_PLAIN, "betas": list, "eps": float},
    "adadelta": {**_PLAIN, "rho": float, "eps": float},
}
"""Optimizers of the JSON that are the same algorithm when ZeRO divides the parameters, with their params."""

UNTESTED = {"sgd": "SGD", "rmsprop": "RMSprop", "nadam": "NAdam", "radam": "RAdam", "adamax": "Adamax",
            "adadelta": "Adadelta"}  # fmt: skip
"""Those of torch's, as torch spells them. DeepSpeed takes them with zero_allow_untested_optimizer only."""

_WARMUP = {"warmup_num_steps": int, "warmup_type": str}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "LRRangeTest": {
        "lr_range_test_min_lr": Any, "lr_range_test_step_size": int, "lr_range_test_step_rate": float,
        "lr_range_test_staircase": bool,
    },
    "OneCycle": {
        "cycle_min_lr": Any, "cycle_max_lr": Any, "decay_lr_rate": float, "cycle_first_step_size": int,
        "cycle_second_step_size": int, "cycle_first_stair_count": int, "cycle_second_stair_count": int,
        "decay_step_size": int, "cycle_momentum": bool, "cycle_min_mom": float, "cycle_max_mom": float,
        "decay_mom_rate": float,
    },
    "WarmupLR": {**_WARMUP, "warmup_min_lr": Any, "warmup_max_lr": Any},
    "WarmupDecayLR": {**_WARMUP, "warmup_min_lr": Any, "warmup_max_lr": Any, "total_num_steps": int},
    "WarmupCosineLR": {**_WARMUP, "warmup_min_ratio": float, "cos_min_ratio": float, "total_num_steps": int},
}  # fmt: skip

SAME_SCHEDULE = {"WarmupLR": "constant_with_warmup", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
"""The lr_scheduler_type of the same shape."""

TOP: dict[str, Any] = {
    "train_batch_size": int, "train_micro_batch_size_per_gpu": int, "gradient_accumulation_steps": int,
    "gradient_clipping": float, "zero_optimization": ZERO, "bf16": BF16, "fp16": FP16,
    "optimizer": {"type": str, "params": Any, "legacy_fusion": bool},
    "scheduler": {"type": str, "params": Any},
    "zero_allow_untested_optimizer": bool, "zero_force_ds_cpu_optimizer": bool, "steps_per_print": Any,
    "wall_clock_breakdown": bool, "memory_breakdown": bool, "dump_state": bool, "disable_python_gc": bool,
    "communication_data_type": str, "prescale_gradients": bool, "gradient_predivide_factor": float,
    "gradient_allreduce_op": str, "disable_allgather": bool, "log_level": str, "data_types": {
        "grad_accum_dtype": str, "param_dtype": str, "buffer_dtype": str, "keep_in_fp32_modules": Any,
    },
    "torch_autocast": {"enabled": bool, "dtype": str, "lower_precision_safe_modules": list},
    "activation_checkpointing": {
        "partition_activations": bool, "number_checkpoints": int, "contiguous_memory_optimization": bool,
        "synchronize_checkpoint_boundary": bool, "profile": bool, "cpu_checkpointing": bool,
    },
    "aio": {
        "block_size": int, "queue_depth": int, "intra_op_parallelism": int, "single_submit": bool,
        "overlap_events": bool, "use_gds": bool,
    },
    "comms_logger": {"enabled": bool, "verbose": bool, "prof_all": bool, "prof_ops": list, "debug": bool},
    "checkpoint": {
        "tag_validation": str, "load_universal": bool, "use_node_local_storage": bool, "parallel_write": dict,
        "writer": dict, "checkpoint_serialization": bool,
    },
    "compile": dict, "flops_profiler": dict, "tensorboard": dict, "wandb": dict, "csv_monitor": dict, "comet": dict,
    "autotuning": dict, "hybrid_engine": dict, "data_efficiency": dict, "curriculum_learning": dict,
    "tensor_parallel": dict, "expert_parallel": dict, "pipeline": dict, "datastates": dict,
    "weight_quantization": dict, "progressive_layer_drop": dict, "sequence_parallel_size": int,
    "seq_parallel_communication_data_type": str, "use_data_before_expert_parallelism": bool,
    "managed_gradient_accumulation": bool, "dataloader_drop_last": bool, "vocabulary_size": int, "timers": dict,
    # removed from DeepSpeed, refused by their rule
    "nebula": dict, "compression_training": dict, "amp": dict, "quantize_training": dict, "sparse_gradients": bool,
    "eigenvalue": dict, "sparse_attention": dict, "elasticity": dict, "bfloat16": dict,
}  # fmt: skip
"""Every key of the top. `Any` takes any value, `dict` an object of any keys."""

AUTO = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "optimizer.params.lr", "optimizer.params.betas", "optimizer.params.eps", "optimizer.params.weight_decay",
    "scheduler.params.warmup_min_lr", "scheduler.params.warmup_max_lr", "scheduler.params.warmup_num_steps",
    "scheduler.params.total_num_steps", "data_types.keep_in_fp32_modules",
)  # fmt: skip
"""Keys whose "auto" the Trainer fills in."""

AUTO_IS_DEFAULT = ("zero_optimization.", "bf16.", "fp16.")
"""Sections in which any "auto" is either filled in or the default."""

_CURVES = "its curves lie elsewhere; metrics.jsonl has them, and tracking=swanlab draws them"
_LOADER = "the batches are made by trainyard's loader, where it has no effect"
REMOVED = "DeepSpeed has removed it"
_PARALLEL = "there is data parallelism and ZeRO only; set deepspeed=zero3 for a model that does not fit"

REFUSED = {
    "tensor_parallel": f"a checkpoint would have no weights: {_PARALLEL}",
    "sequence_parallel_size": _PARALLEL,
    "seq_parallel_communication_data_type": _PARALLEL,
    "expert_parallel": _PARALLEL,
    "use_data_before_expert_parallelism": _PARALLEL,
    "pipeline": _PARALLEL,
    "checkpoint.writer": "it fails at the first save: trainyard writes the checkpoints",
    "checkpoint.load_universal": "trainyard converts checkpoints by itself when the ranks are others",
    "checkpoint.use_node_local_storage": "trainyard keeps the files of all ranks in one directory",
    "checkpoint.parallel_write": "trainyard writes the checkpoints, each rank its own files",
    "checkpoint.checkpoint_serialization": "trainyard writes the checkpoints",
    "compile": "it has no effect here; set trainer.torch_compile=true",
    "tensorboard": _CURVES,
    "wandb": _CURVES,
    "csv_monitor": _CURVES,
    "comet": _CURVES,
    "flops_profiler": "each start writes its file over; set run.profile_steps=3, or debug=profile",
    "autotuning": "its launcher is DeepSpeed's; sweep=speed compares stages and micro batches",
    "hybrid_engine": "it is for generation between the steps, which trainyard does not do",
    "data_efficiency": _LOADER,
    "curriculum_learning": _LOADER,
    "dataloader_drop_last": _LOADER,
    "progressive_layer_drop": "a model of Hugging Face has no such layers",
    "vocabulary_size": "the tokenizer decides it",
    "datastates": "trainyard writes the checkpoints",
    "weight_quantization": "it is for inference",
    "managed_gradient_accumulation": "the Trainer accumulates",
    "timers": "metrics.jsonl has the times",
    "bfloat16": "write bf16, the name that the Trainer reads",
    **dict.fromkeys(
        ("nebula", "compression_training", "amp", "quantize_training", "sparse_gradients", "eigenvalue",
         "sparse_attention", "elasticity"), REMOVED,
    ),
}  # fmt: skip
"""Keys that fail, have no effect or another one here, each with the reason. Switched off, they do no harm."""
