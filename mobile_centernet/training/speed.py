"""How a training runs fastest on this machine: precision, memory format and threads, measured instead of guessed.

A sum's last bits depend on all three. So `precision: fp32` measures nothing and changes nothing on the way: channels
last and the process' own number of threads (OMP_NUM_THREADS, else the cores) give equal bytes on one machine.
"""

import copy
import json
import logging
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from mobile_centernet.data.training.loader import Sample
from mobile_centernet.files import write_json
from mobile_centernet.inference.torch import best_device
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet

CLEARLY = 0.95
"""A candidate wins with at most this share of the default's seconds: less is noise."""
MOST_STEPS, LONGEST = 4, 2.0
"""A candidate's steps, the first of which is not counted, and seconds after which no further one begins."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Speed:
    """How a training runs. precision: fp32 or bf16; threads: of the processor, with which it starts."""

    precision: str
    channels_last: bool
    threads: int
    device: str

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def choose_speed(wanted: str, threads: int, device: str, *, bf16: bool, measure: Callable[[Speed], float]) -> Speed:
    """The fastest way: first the precision, then the memory format, then one thread or all.

    Args:
        wanted: fp32, bf16 or auto; fp32 is not measured.
        threads: as many as there may be.
        device: cpu or cuda.
        bf16: whether the device computes in it at all; emulated, one step may take minutes.
        measure: seconds of a step.
    """
    best = Speed("bf16" if wanted == "bf16" else "fp32", True, threads, device)
    if wanted == "fp32":
        return best
    seconds = {best: measure(best)}
    changes: list[dict[str, Any]] = [{"precision": "bf16"}] if wanted == "auto" and bf16 else []
    changes += [{"channels_last": False}]
    changes += [{"threads": 1}] if device == "cpu" and threads > 1 else []
    for change in changes:
        candidate = replace(best, **change)
        seconds[candidate] = measure(candidate)
        if seconds[candidate] < CLEARLY * seconds[best]:
            best = candidate
    for tried, value in seconds.items():
        layout = "channels last" if tried.channels_last else "contiguous"
        mark = "chosen" if tried == best else "slower"
        message = "%.0f ms a step in %s, %s, threads: %d (%s)"
        logger.info(message, 1e3 * value, tried.precision, layout, tried.threads, mark)
    return best


def speed_for(
    student: CenterNet,
    criterion: Criterion,
    batch: Sample,
    wanted: str,
    *,
    teacher: CenterNet | None = None,
    work: Path,
    cache: Path | None = None,
) -> Speed:
    """How this training runs here: as it began, else as it was measured before, else as a measurement now says.

    Args:
        student: is copied: its weights, statistics and the random numbers of the training stay as they are.
        criterion: the losses of a step.
        batch: one of the training's own.
        wanted: fp32, bf16 or auto.
        teacher: takes part in the measured steps.
        work: the training's folder, which remembers the choice for when it resumes.
        cache: JSON file of former choices by machine, model, teacher, batch and input size; None: measured again.
    """
    device, most = best_device().type, torch.get_num_threads()
    kept = work / "speed.json"
    if kept.is_file():
        return Speed(**json.loads(kept.read_text(encoding="utf-8")))

    def measure(tried: Speed) -> float:
        models = [copy.deepcopy(model).to(device) for model in (student, *((teacher,) if teacher else ()))]
        models[0].train()
        for model in models:
            nn.utils.convert_conv2d_weight_memory_format(model, tried.memory_format)
        images: Mapping[str, Tensor] = {name: value.to(device) for name, value in batch.items()}
        losses = copy.deepcopy(criterion).to(device)
        torch.set_num_threads(tried.threads)
        taken: list[float] = []
        try:
            while len(taken) < 2 or (len(taken) < MOST_STEPS and sum(taken) < LONGEST):
                start = time.perf_counter()
                with torch.autocast(device, torch.bfloat16, enabled=tried.precision == "bf16"):
                    with torch.no_grad():
                        guides = [guide.eval()(images["image"]) for guide in models[1:]]
                    total = losses.total(losses(models[0](images["image"]), images, *guides))
                torch.autograd.backward(total)
                if device == "cuda":
                    torch.cuda.synchronize()
                taken.append(time.perf_counter() - start)
        finally:
            torch.set_num_threads(most)
        return min(taken[1:])

    processor = Path("/proc/cpuinfo")
    lines = processor.read_text(encoding="utf-8").splitlines() if processor.is_file() else []
    facts = {
        "processor": sorted({line for line in lines if line.startswith(("model name", "flags"))}) or platform.machine(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "threads": most,
        "torch": torch.__version__,
        "models": [student.name, teacher.name if teacher else None],
        "images": list(batch["image"].shape),
        "precision": wanted,
    }
    known = json.loads(cache.read_text(encoding="utf-8")) if cache and cache.is_file() else []
    found = [Speed(**entry["speed"]) for entry in known if entry["facts"] == facts]
    bf16 = device == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    speed = found[0] if found else choose_speed(wanted, most, device, bf16=bf16, measure=measure)
    if cache and not found and wanted != "fp32":
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, [*known, {"facts": facts, "speed": asdict(speed)}])
    work.mkdir(parents=True, exist_ok=True)
    write_json(kept, asdict(speed))
    return speed


class ThreadTuner:
    """How many threads the next step takes, from the seconds that steps took: fewer while others use the cores.

    Threads wait for each other behind every operator: where another program has one of two cores, both together are
    six times slower than alone, and one of them twice as fast as that. When steps turn slow, and every `PAUSE` steps,
    a few are taken with half or twice as many threads; the faster number stays. In vain it waits twice as long.
    """

    SAMPLE, PAUSE, LONGEST_PAUSE = 5, 25, 200
    SLOW, WORSE, BETTER = 1.5, 1.2, 0.9

    def __init__(self, most: int, start: int) -> None:
        self.numbers = sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most, start})
        self.threads = start
        self._recent: deque[float] = deque(maxlen=self.SAMPLE)
        self._usual = float("inf")
        self._pause = self._left = self.PAUSE
        self._back: int | None = None  # the number to return to after a trial
        self._trial: list[float] = []
        self._upwards = True

    def after(self, seconds: float) -> int:
        """The next step's threads, after one that took so long."""
        if self._back is not None:
            self._trial.append(seconds)
            judged = self._trial[1:]  # the first one prepares its operators
            usual = statistics.median(self._recent)
            if judged and (judged[-1] > self.WORSE * usual or len(judged) == self.SAMPLE - 2):
                if statistics.median(judged) < self.BETTER * usual:
                    message = "threads: %d from here on, %.0f ms a step; with %d it was %.0f ms"
                    logger.info(message, self.threads, 1e3 * statistics.median(judged), self._back, 1e3 * usual)
                    self._recent.clear()
                    self._recent.extend(judged)
                    self._pause = self.PAUSE
                else:
                    self.threads = self._back
                    self._pause = min(2 * self._pause, self.LONGEST_PAUSE)
                self._usual = statistics.median(self._recent)
                self._back, self._left = None, self._pause
            return self.threads

        self._recent.append(seconds)
        self._left -= 1
        if len(self._recent) < self.SAMPLE or len(self.numbers) == 1:
            return self.threads
        now = statistics.median(self._recent)
        slow = now > self.SLOW * self._usual
        self._usual = min(self._usual, now)
        if slow or self._left <= 0:
            place = self.numbers.index(self.threads)
            self._upwards = place == 0 or (place < len(self.numbers) - 1 and not slow and not self._upwards)
            self._back, self._trial = self.threads, []
            self._pause = self.PAUSE if slow else self._pause
            self.threads = self.numbers[place + (1 if self._upwards else -1)]
        return self.threads


class AdaptThreads(pl.Callback):
    """Gives every step as many threads as ThreadTuner says."""

    def __init__(self, tuner: ThreadTuner) -> None:
        self.tuner = tuner
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.set_num_threads(self.tuner.threads)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        torch.set_num_threads(self.tuner.after(time.perf_counter() - self._started))
