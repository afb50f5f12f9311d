"""diffusers' text-to-image pipelines in local folders as Samplers: their own call, loop and schedulers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from evaluation.rivals.pretrained import folder as folders
from evaluation.rivals.pretrained.plan import WITH_CHECKER, Plan, arguments, describe, in_use, library, look, steps_of
from evaluation.rivals.pretrained.settings import Pretrained
from gigagan.clip import read_weights
from gigagan.errors import UserError
from gigagan.memory import is_out_of_memory
from gigagan.pixels import to_uint8

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_PAIR = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_PAIR, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
ENCODED = {
    "StableDiffusionPipeline": _PAIR,
    "LatentConsistencyModelPipeline": _PAIR,
    "StableDiffusionXLPipeline": _POOLED,
    "StableDiffusion3Pipeline": _POOLED,
    "PixArtAlphaPipeline": _MASKED,
    "PixArtSigmaPipeline": _MASKED,
    "SanaPipeline": _MASKED,
    "SanaSprintPipeline": _MASKED[:2],
}
"""What each class's ``encode_prompt`` returns, by the names under which its call takes it."""


WIDTHS = ("in_channels", "out_channels", "cross_attention_dim", "caption_channels")
"""What two denoisers must have alike for one to take the other's place."""


class PipelineSampler:
    """A pipeline as a Sampler.

    Attributes:
        resolution: side of its pictures, px.
        dtype: of weights and activations, as records call it.
        separable: whether ``encode`` runs the text encoders; if not, it hands the captions on, and ``generate`` does.
        timeable: always.
        params_m: millions of parameters of what draws: the denoiser and the decoder behind it, no text encoder.
        sha: digest of the files that it came from.
        description: one line for logs.
        networks, encoders: that draw, and that read captions.
        n_blackened: pictures so far that the safety checker has made black.
    """

    timeable = True

    def __init__(self, pipe: Any, settings: Pretrained, plan: Plan, device: torch.device) -> None:
        """Raises UserError for a class whose way to encode captions is not known."""
        self.pipe, self.settings, self.device = pipe, settings, device
        self.resolution, self.separable = settings.resolution, settings.separable
        self.dtype = settings.dtype
        self.sha = plan.sha
        # Again, as some pipelines change their scheduler's configuration.
        self.description = describe(settings, type(pipe), pipe.scheduler)
        self.n_blackened = 0
        self._name = type(pipe).__name__
        if self.separable and self._name not in ENCODED:
            raise settings.wrong(
                f"how {self._name} encodes captions is not known here (known: {', '.join(ENCODED)}): say separable: "
                "false to have it encode within each call, where the generator alone cannot be timed"
            )
        self._takes = arguments(pipe.__call__)
        # What either library finds installed must not change a picture.
        self._call = {"clean_caption": False} if "clean_caption" in self._takes else {}
        self._call |= settings.call
        self._rows = 0
        self._seeded = False  # known once a picture was drawn
        denoiser = getattr(pipe, plan.denoiser[0])
        denoiser.register_forward_pre_hook(self._count, with_kwargs=True)
        time_cond = denoiser.config.get("time_cond_proj_dim")  # such a network takes the guidance scale itself
        self._guided = (settings.guidance or 0) > 1 and time_cond is None
        decoder = [getattr(pipe.vae, name, None) for name in ("decoder", "post_quant_conv")]
        self.networks = [denoiser, *(module for module in decoder if module is not None)]
        parts = [getattr(pipe, part) for part in pipe.components if part.startswith("text_encoder")]
        self.encoders = [module for module in parts if module is not None]
        self.params_m = round(sum(p.numel() for module in self.networks for p in module.parameters()) / 1e6, 6)

    def _count(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._rows += len(args[0] if args else kwargs.get("hidden_states", kwargs.get("sample")))

    @functools.cached_property
    def nfe(self) -> int:
        """Evaluations of the denoiser a picture, counted on one; with guidance each step has two."""
        blackened, self._rows = self.n_blackened, 0
        self.generate(self.encode(["a picture"]), [0])
        self.n_blackened = blackened
        return self._rows

    @torch.inference_mode()
    def encode(self, captions: list[str]) -> Any:
        """What the text encoders make of captions, as the pipeline's call takes it; or the captions themselves."""
        if not self.separable:
            return list(captions)
        takes = arguments(self.pipe.encode_prompt)
        given = {name: value for name, value in (self._takes | self._call).items() if name in takes}
        given |= {
            "prompt": list(captions),
            "device": self.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": self._guided,
            "negative_prompt": self._negative(len(captions)),
        }
        with self._refusals():
            found = self.pipe.encode_prompt(**{name: value for name, value in given.items() if name in takes})
        named = dict(zip(ENCODED[self._name], found, strict=True))
        return {name: value for name, value in named.items() if value is not None and name in self._takes}

    def _negative(self, n: int) -> list[str] | None:
        """One for each caption, as some classes ask for; None is not "": SDXL then takes zeros."""
        said = self.settings.negative_prompt
        said = self._takes.get("negative_prompt") if said is None else said
        return None if said is None else [said] * n

    @torch.inference_mode()
    def generate(self, condition: Any, seeds: list[int]) -> Tensor:
        """[B, 3, R, R] in [-1, 1], fp32, on the device; each picture has its own generator for all that it draws.

        Raises UserError where the pipeline refuses what is asked of it, or draws from torch's common generator, whose
        pictures would be other ones each time.
        """
        text = condition if self.separable else {"prompt": condition}
        # Embeddings and a negative prompt are refused together, and some classes have one by default.
        text = text | {"negative_prompt": None if self.separable else self._negative(len(seeds))}
        with self._refusals(), self._governed():
            drawn = self.pipe(
                **self._call,
                **{name: value for name, value in text.items() if name in self._takes},
                **steps_of(self.settings),
                guidance_scale=self.settings.guidance,
                height=self.resolution,
                width=self.resolution,
                # On the CPU: a picture's noise is then the same on every device.
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="pt",
            )
        self.n_blackened += sum(getattr(drawn, "nsfw_content_detected", None) or ())
        images = drawn.images.float() * 2 - 1
        wanted = (len(seeds), 3, self.resolution, self.resolution)
        if images.shape != wanted:
            raise self.settings.wrong(f"{self._name} drew {tuple(images.shape)} instead of {wanted}")
        return images

    def __call__(self, captions: list[str], seeds: list[int]) -> np.ndarray:
        """uint8 [B, R, R, 3]"""
        return to_uint8(self.generate(self.encode(captions), seeds))

    def count_cut(self, captions: list[str]) -> int:
        """How many captions are longer than what the (first) text encoder reads."""
        tokenizer = self.pipe.tokenizer
        most = (self._takes | self._call).get("max_sequence_length", tokenizer.model_max_length)
        return sum(len(tokenizer(caption).input_ids) > most for caption in captions)

    @contextmanager
    def _governed(self) -> Iterator[None]:
        """Look, around the first pictures, whether torch's common generators stay as they are."""
        before = self._common()
        yield
        if any(not torch.equal(*pair) for pair in zip(before, self._common(), strict=True)):
            what = f"{self._name} with {type(self.pipe.scheduler).__name__}"
            raise self.settings.wrong(f"{what} draws noise that no seed governs: take another scheduler")
        self._seeded = True

    def _common(self) -> list[Tensor]:
        """The states of the generators that no picture has to itself; none once they are known to be left alone."""
        if self._seeded:
            return []
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [])]

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as e:
            raise self.settings.wrong(f"{self._name} refuses this: {_first_line(e)}") from None


def load(settings: Pretrained, models: Path, device: torch.device) -> PipelineSampler:
    """A pipeline from the user's folder of models.

    Raises UserError as ``plan.look``, for weights that cannot be read or do not fit, fp16 on a CPU, and where the
    device's memory does not hold it.
    """
    if settings.dtype == "fp16" and device.type == "cpu":
        raise settings.wrong("dtype: fp16 does not run on a CPU: say bf16 or fp32, or take a GPU")
    plan = look(settings, models)
    try:
        pipe = _pipeline(settings, models, plan)
        _check_whole(settings, pipe, plan)
        pipe.to(device)
        if settings.lora:
            _merge_lora(settings, models, pipe)
    except UserError:
        raise
    except Exception as e:  # both libraries raise nearly every type there is on files that do not fit
        if is_out_of_memory(e):
            half = "" if settings.dtype != "fp32" else "; in half precision it takes half (dtype: bf16)"
            raise settings.wrong(f"does not fit into the memory of {device}{half}") from None
        raise settings.wrong(f"{plan.folder}: cannot be loaded: {type(e).__name__}: {_first_line(e)}") from None
    pipe.set_progress_bar_config(disable=True)
    return PipelineSampler(pipe, settings, plan, device)


def _pipeline(settings: Pretrained, models: Path, plan: Plan) -> Any:
    common = {"dtype": DTYPES[settings.dtype], "local_files_only": True}
    given: dict[str, Any] = {"scheduler": plan.scheduler}
    takes = arguments(plan.pipeline.__init__)
    if not settings.safety_checker:
        given |= {name: None for name in WITH_CHECKER if name in takes}
        given |= {"requires_safety_checker": False} if "requires_safety_checker" in takes else {}
    if "add_watermarker" in takes:  # drawn over the picture wherever a certain package is installed
        given["add_watermarker"] = False
    if settings.denoiser:
        given[plan.denoiser[0]] = _denoiser(settings, models, plan)
    if settings.adapter == "single_file":
        return plan.pipeline.from_single_file(models / settings.file, config=str(plan.folder), **common, **given)
    return plan.pipeline.from_pretrained(
        plan.folder,
        variant=settings.variant or None,
        use_safetensors=None if settings.allow_pickle else True,
        **common,
        **given,
    )


def _denoiser(settings: Pretrained, models: Path, plan: Plan) -> Any:
    """The network that stands in for the folder's own. Raises UserError where its weights are another network's."""
    from accelerate import init_empty_weights

    name, class_name = plan.denoiser
    kind, path, dtype = getattr(library(), class_name), models / settings.denoiser, DTYPES[settings.dtype]
    described = path if (path / "config.json").is_file() else plan.folder / name
    if described is path:
        other, own = (folders.read_json(place / "config.json") for place in (path, plan.folder / name))
        for width in WIDTHS:
            if other.get(width) != own.get(width):
                raise settings.wrong(
                    f"denoiser: {path}: {width} is {other.get(width)}, the folder's own {own.get(width)}"
                )
        return kind.from_pretrained(
            path,
            variant=settings.variant or None,
            use_safetensors=None if settings.allow_pickle else True,
            dtype=dtype,
            local_files_only=True,
        )
    file = folders.weights_file(path, settings.allow_pickle)
    with init_empty_weights():
        network = kind.from_config(folders.read_json(described / "config.json"))
    try:
        network.load_state_dict(read_weights(file), assign=True)
    except RuntimeError as e:
        reason = " ".join(str(e).split())
        raise settings.wrong(f"denoiser: {file} is no {class_name} of {described}: {reason:.160} ...") from None
    return network.to(dtype).eval()


def _check_whole(settings: Pretrained, pipe: Any, plan: Plan) -> None:
    """Raises UserError where a part's files hold fewer tensors than it has: the libraries would draw the others at
    random, with a warning. Numbers are compared, as old files call their tensors otherwise."""
    for part in in_use(settings, folders.parts(folders.read_index(plan.folder))):
        module = getattr(pipe, part, None)
        files = [path for path in plan.files if path.parent == plan.folder / part and path.suffix in folders.SAFE]
        if not isinstance(module, nn.Module) or not files:
            continue
        held, wanted = 0, sum(1 for _ in module.parameters())
        for path in files:
            with safe_open(path, "pt") as tensors:
                held += len(tensors.keys())
        if held < wanted:
            raise UserError(f"{plan.folder / part}: holds {held} tensors of {wanted}: bring its files again")


def _merge_lora(settings: Pretrained, models: Path, pipe: Any) -> None:
    """Add a LoRA to the weights, as one deploys it: beside them it would take time at each step.

    Raises UserError for one that is of another network.
    """
    file = folders.weights_file(models / settings.lora, settings.allow_pickle)
    try:
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as e:
        raise settings.wrong(f"lora: {file} does not fit this pipeline: {_first_line(e)}") from None
    if not pipe.get_active_adapters():
        raise settings.wrong(f"lora: {file} holds nothing that belongs to this pipeline")
    pipe.fuse_lora(lora_scale=settings.lora_scale)
    pipe.unload_lora_weights()


def _first_line(e: BaseException) -> str:
    lines = str(e).strip().splitlines()
    return lines[0][:200] if lines else type(e).__name__
