"""The same weights through a plain loop of MONAI's own PNDM scheduler in fp32, against our sampler, in one process.

MONAI 1.6.1's scheduler is used with its faults worked around: the step count restored after `set_timesteps`, the second
timestep repeated, and the last ᾱ set to 1. It knows one noise level for all voxels, so both sides sample with W = 1.
"""

import statistics
import time
from collections.abc import Callable

import torch
from monai.networks.schedulers import PNDMScheduler
from torch import Tensor

from spinepaint.models.prediction import noise_of
from spinepaint.models.samplers import pndm
from spinepaint.worker.bundles import loaded_bundle

STEPS = 50


def measure(runs: int) -> dict[str, float]:
    """Median seconds of 50 steps each way, their ratio, and how far the two results lie apart."""
    models = loaded_bundle()
    unet, table = models.inpainter.unet, models.inpainter.alpha_bar
    x, y, z = models.config.crop.grid
    shape = (1, unet.config.latent_channels, x // 4, y // 4, z)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight, one = torch.ones(1, 1, *shape[2:]), torch.tensor([1])

    def eps(sample: Tensor, t: int) -> Tensor:
        said = unet(sample, weight, torch.tensor([t]), one, one).float()
        return noise_of(said, sample, torch.zeros_like(sample), table[t], unet.config.predicts)

    def ours(precise: bool) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            return pndm(eps, start, weight, table, STEPS)

    def theirs() -> Tensor:
        with torch.inference_mode():
            return _monai(eps, start, models.config.schedule.beta_start, models.config.schedule.beta_end)

    plain_s, plain = _time(theirs, runs)
    ours_s, _ = _time(lambda: ours(False), runs)
    precise = ours(True)
    return {
        "monai_fp32_s": plain_s,
        "ours_bf16_s": ours_s,
        "ratio_ours_to_monai": ours_s / plain_s,
        "rmse_fp32_between_them": float((precise - plain).square().mean().sqrt()),
        "std_of_the_result": float(plain.std()),
    }


def _monai(eps: Callable[[Tensor, int], Tensor], sample: Tensor, beta_start: float, beta_end: float) -> Tensor:
    scheduler = PNDMScheduler(
        1000, "scaled_linear_beta", skip_prk_steps=True, set_alpha_to_one=True, beta_start=beta_start, beta_end=beta_end
    )
    scheduler.set_timesteps(STEPS)
    scheduler.num_inference_steps = STEPS
    # Its table starts at ᾱ of one step, so its timestep t is our t + 1; the last of them, 999, is the noisiest.
    times = [t + 19 for t in scheduler.timesteps.tolist()]
    times = [times[0], times[1], *times[1:]]
    for t in times:
        sample, _ = scheduler.step(eps(sample, t + 1), t, sample)
    return sample


def _time(work: Callable[[], Tensor], runs: int) -> tuple[float, Tensor]:
    result, seconds = work(), []
    for _ in range(runs):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result
