"""The training loop that pre-training and fine-tuning share."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast
from PIL import Image
from torch import nn

from unip.errors import Interrupted, UnipError
from unip.outputs import writing
from unip.progress import meter
from unip.runtime.compiling import keep_kernels, start_compilers
from unip.runtime.device import training_precision
from unip.runtime.seeds import seed_for
from unip.runtime.signals import StopRequest, stop_on_signals
from unip.runtime.workers import lost_process
from unip.training.best import BestWeights, Evaluation
from unip.training.bf16_copies import Bf16Copies
from unip.training.checkpoint import load_checkpoint, newest_whole, save_checkpoint
from unip.training.config import TrainingConfig
from unip.training.drop_path import DropPathDecisions
from unip.training.ema import WeightAverage
from unip.training.feed import Feed, PositionDataset, Positions
from unip.training.graphs import GraphedPass, GraphedUpdate, StepNumbers, Values
from unip.training.pace import Pace, TellPace
from unip.training.ranks import COLLECTIVE_TIMEOUT, together
from unip.training.run_folder import LogRecord, RunFolder, checkpoint_path, list_checkpoints, step_of
from unip.training.schedule import Schedule
from unip.training.tensorboard import TensorBoard

log = logging.getLogger(__name__)

DrawPicture = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Trainable:
    """What a program hands to the loop.

    Attributes:
        model: Called as ``model(*batch)`` with the dataset's items collated on the device; returns scalar tensors by
            name, one of them ``loss``.
        saved: The part of ``model`` (or all of it) whose state a checkpoint holds.
        dataset: Makes what is trained on, ``dataset()[position]`` for any position >= 0; called once, with the trained
            weights in ``model``, and only if there is a step to do. It may leave ``model`` in evaluation mode.
        groups: AdamW groups of :func:`unip.training.optim.parameter_groups`.
        schedule: Factor on each group's learning rate by step.
        betas: AdamW's.
        compiled: Parts of ``model`` that are compiled where compiling is on, in place: names of weights stay.
        picture: Makes an RGB uint8 picture (H, W, 3) of the state of training, shown every ``picture_every`` steps.
        picture_every: Steps between pictures; 0 makes none.
        evaluation: How the weights are judged; the best ones are the result. None: the last ones are.
        pace: Called once, after the first steps, with the seconds that one takes and how many are left.
    """

    model: nn.Module
    saved: nn.Module
    dataset: Callable[[], PositionDataset]
    groups: list[dict[str, Any]]
    schedule: Schedule
    betas: tuple[float, float] = (0.9, 0.999)
    compiled: tuple[nn.Module, ...] = ()
    picture: DrawPicture | None = None
    picture_every: int = 0
    evaluation: Evaluation | None = None
    pace: TellPace | None = None


@dataclass(frozen=True)
class TrainResult:
    """How training went: steps done, seconds in this process, samples/s, the last line of the log, the best weights."""

    steps: int
    seconds: float
    samples_per_second: float
    last: LogRecord
    best: BestWeights | None = None


def check_gpu(device: str) -> None:
    """Refuse ``device`` if it is ``cuda`` and there is none.

    Raises:
        UnipError: There is no GPU.
    """
    if device == "cuda" and not torch.cuda.device_count():
        raise UnipError("CUDA was requested, but torch finds no GPU", "Use --device cpu, or install the GPU's driver.")


def check_graphs(accelerator: Accelerator) -> None:
    """Refuse CUDA graphs where they cannot be captured.

    Raises:
        UnipError: There is no GPU, or there are several ranks.
    """
    if accelerator.device.type != "cuda" or accelerator.num_processes > 1:
        where = f"{accelerator.num_processes} ranks" if accelerator.num_processes > 1 else str(accelerator.device)
        raise UnipError(f"CUDA graphs are for one GPU, this is {where}", "Use --compile auto.")


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Set up devices, ranks and precision (also under ``accelerate launch`` and ``torchrun``).

    Raises:
        UnipError: The device or the precision is not there.
    """
    check_gpu(config.device)
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    precision = training_precision(config.precision, on_gpu=on_gpu, on_processors=config.bfloat16_on_processors)
    if on_gpu and precision != "fp32":
        torch.set_float32_matmul_precision("high")  # what stays float32 may use TF32, still finer than its half inputs
    # accelerate keeps its state for the life of the process, and would give a second program the first one's
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(
        mixed_precision={"fp32": "no"}.get(precision, precision),
        cpu=not on_gpu,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=COLLECTIVE_TIMEOUT),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )
    if config.graphed:
        check_graphs(accelerator)
    return accelerator


@contextmanager
def accelerated(config: TrainingConfig) -> Iterator[Accelerator]:
    """Set up devices and ranks for the body, which ends on all ranks when it fails on one, see :func:`together`.

    Raises:
        UnipError: The device or the precision is not there; or another rank failed or is gone.
    """
    accelerator = make_accelerator(config)
    with together(accelerator):
        yield accelerator


def train(trainable: Trainable, config: TrainingConfig, run: RunFolder, accelerator: Accelerator) -> TrainResult:
    """Train from the run's newest checkpoint, or from the start, to ``config.steps``.

    Sample order, augmentation and drop path are functions of (seed, step, sample), so a continued run computes what an
    uninterrupted one would, also on another number of devices. (Dropout is one of seed, step and rank.)

    With ``config.ema`` the trained module holds the averaged weights in the end. Where they are evaluated, it holds
    those that were best.

    Raises:
        UnipError: The loss is not finite, a sample cannot be read, memory or the disk is full, a loader process is
            gone, or a checkpoint does not fit.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint was saved.
    """
    return _Loop(trainable, config, run, accelerator).run_all()


class _Loop:
    def __init__(self, trainable: Trainable, config: TrainingConfig, run: RunFolder, accelerator: Accelerator) -> None:
        self.trainable, self.config, self.run, self.accelerator = trainable, config, run, accelerator
        self.main = accelerator.is_main_process
        on_gpu = accelerator.device.type == "cuda"
        # with float16 the scaler decides about a step in the end, so it stays outside of a graph
        graphed = config.graphed and accelerator.scaler is None
        optimizer = torch.optim.AdamW(trainable.groups, betas=trainable.betas, fused=on_gpu, capturable=graphed)
        self.rates = [group["lr"] for group in trainable.groups]
        self.lr = 0.0  # the highest of this step
        trainable.model.train()
        self.model, self.optimizer = accelerator.prepare(trainable.model, optimizer)
        if isinstance(self.model, nn.parallel.DistributedDataParallel):
            # buffers are equal on all ranks, or each rank's own: drop path, and batch norm's where it is not synced
            self.model.broadcast_buffers = False  # as an argument it is deprecated in new releases of torch
        self.parameters = [p for group in trainable.groups for p in group["params"]]
        self.graph = GraphedPass(self._compute, self.model, adds=config.accumulate > 1) if config.graphed else None
        self.update = GraphedUpdate(self._update, accelerator.device) if graphed else None
        self.numbers = StepNumbers(len(self.rates) + 1, accelerator.device) if graphed else None
        has_copies = config.graphed and accelerator.mixed_precision == "bf16" and config.accumulate == 1
        self.bf16_copies = Bf16Copies(self.model) if has_copies else None
        if config.is_compiled(on_gpu):
            self._compile()
        self.average = WeightAverage(trainable.saved, config.ema) if config.ema is not None else None
        self.best = BestWeights() if trainable.evaluation is not None else None
        rank, ranks = accelerator.process_index, accelerator.num_processes
        positions = Positions(config, start=0, rank=rank, ranks=ranks)
        self.drop_path = DropPathDecisions(trainable.model, positions, seed=config.seed, device=accelerator.device)
        self.step = self.since = 0  # since which the sums of the next line of the log are taken
        self.sums: dict[str, torch.Tensor] = {}
        self.writer: TensorBoard | None = None

    def _compile(self) -> None:
        if self.config.checkpoint_activations:
            # torch's splitting of a graph along DDP's buckets refuses blocks that are computed again
            torch._dynamo.config.optimize_ddp = False
        keep_kernels()
        if self.accelerator.device.type == "cuda":
            start_compilers()
        for part in self.trainable.compiled:
            part.compile(dynamic=False)

    def run_all(self) -> TrainResult:
        self._continue_from_checkpoint()
        dataset = None if self._at_end() else self.trainable.dataset()
        self.trainable.model.train()
        first, begun = self.step, time.monotonic()
        if self.main and self.config.tensorboard:
            self.writer = TensorBoard(self.run)
        try:
            with (
                stop_on_signals() as stop,
                meter("training", self.config.steps, "steps", start=first, enabled=self.main) as progress,
            ):
                if self._evaluates_now():
                    self._judge_at_last(stop)
                if dataset is not None:
                    with closing(self._feed(dataset)) as feed:
                        self._steps(feed, stop, progress)
        except torch.OutOfMemoryError as error:
            raise UnipError(
                f"the device ran out of memory at step {self.step}: {str(error).splitlines()[0][:200]}",
                "Add --checkpoint-activations and run the same command again. Or start over with a higher "
                "--accumulate (the batch stays the same), or a lower --batch-size or --size/--crop.",
            ) from error
        except RuntimeError as error:
            if not (gone := lost_process(error)):
                raise
            raise UnipError(
                f"a loader process ended at step {self.step}: {gone}",
                "Memory may have run out: use fewer --workers or --cache none. The same command continues from the "
                "newest checkpoint.",
            ) from error
        finally:
            self.graph = self.update = None  # they refer to this object, and hold the memory of a whole pass
            self.optimizer.zero_grad(set_to_none=True)
            if self.writer is not None:
                self.writer.close()
        if self.best is not None:
            self.trainable.saved.load_state_dict(self.best.tensors)
        elif self.average is not None:
            self.average.apply()
        seconds = time.monotonic() - begun
        rate = (self.step - first) * self.config.batch_size / max(seconds, 1e-9)
        lines = self.run.read_log()
        return TrainResult(self.step, seconds, rate, lines[-1] if lines else {}, self.best)

    def _feed(self, dataset: PositionDataset) -> Feed:
        return Feed(
            dataset,
            self.config,
            start=self.step,
            rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
            device=self.accelerator.device,
        )

    def _steps(self, feed: Feed, stop: StopRequest, progress: Any) -> None:
        rated, logged = self.step, time.monotonic()
        pace = Pace(self.trainable.pace if self.main else None, self.accelerator.device)
        while not self._at_end():
            for name, value in self._one_step(feed).items():
                self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.step += 1
            pace.after_step(self.config.steps - self.step)
            judging = self._evaluates_now()
            note = ""
            if self.step % self.config.log_every == 0 or self._at_end() or judging:
                means = self._means()
                rates = self._rates(feed, self.step - rated, time.monotonic() - logged)
                judged = self._evaluate(stop) if judging else {}
                self._log(means | judged, rates)
                shown = {"loss": means["loss"], **judged}
                note = "".join(f"{name} {value:.4f}, " for name, value in shown.items()) + describe_rates(rates)
                self.sums, self.since = {}, self.step
                rated, logged = self.step, time.monotonic()
            at_end = self._at_end()
            progress.advance(note=note)
            every = self.trainable.picture_every
            if every and (self.step % every == 0 or at_end):
                self._show()
            cut_short = judging and not judged
            stopping = cut_short or self._agree(stop)
            if self.step % self.config.checkpoint_every == 0 or at_end or stopping:
                if self.sums:  # never let a checkpoint replace a good one before its loss was looked at
                    self._means()
                self._save()
            if stopping and (cut_short or not at_end):
                raise self._stopped()

    def _stopped(self) -> Interrupted:
        return Interrupted(
            f"stopped at step {self.step} of {self.config.steps}; all of it is saved in {self.run.path}",
            f"Run the same command again{' (without --overwrite)' * self.config.overwrite} to continue.",
        )

    def _judge_at_last(self, stop: StopRequest) -> None:
        """Judge the weights of a checkpoint that was saved because someone stopped their evaluation."""
        judged = self._evaluate(stop)
        if not judged:
            raise self._stopped()
        self._set_numbers(self.step - 1)  # checkpoints do not hold them
        lines = self.run.read_log() if self.main else []
        before = next((line for line in reversed(lines) if line["step"] == self.step), {})  # without a score
        self._log(
            {name: value for name, value in before.items() if name not in ("step", "lr")} | judged, {}, again=True
        )

    def _one_step(self, feed: Feed) -> dict[str, torch.Tensor]:
        """Do one optimiser step; nothing here waits for the device."""
        accelerator, passes = self.accelerator, self.config.accumulate
        torch.manual_seed(seed_for(self.config.seed, self.step, accelerator.process_index))
        self._set_numbers(self.step)
        self.drop_path.draw(self.step)
        totals: dict[str, torch.Tensor] = {}
        for number in range(passes):
            batch = next(feed)
            self.drop_path.load(number)
            last = number == passes - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                values = self.graph(*batch) if self.graph is not None else self._compute(*batch)
            for name, value in values.items():
                totals[name] = totals.get(name, 0) + value.detach().float() / passes
        updated = self._update() if self.update is None else self.update()
        return totals | {name: value.clone() for name, value in updated.items()}

    def _update(self) -> Values:
        """Change the weights by their gradients; what changes from step to step comes from :meth:`_set_numbers`."""
        values = {}
        if self.config.clip is not None:
            values["grad_norm"] = self.accelerator.clip_grad_norm_(self.parameters, self.config.clip).float()
        self.optimizer.step()
        if self.graph is None:
            self.optimizer.zero_grad(set_to_none=True)
        elif self.graph.adds:
            self.optimizer.zero_grad(set_to_none=False)
        if self.average is not None:
            self.average.update(self.average.share(self.step) if self.numbers is None else self.numbers.tensor[-1])
        return values

    def _set_numbers(self, step: int) -> None:
        """Set the learning rates of a step, which its line of the log tells, and its share in the averaged weights."""
        factor = self.trainable.schedule(step)
        rates = [rate * factor for rate in self.rates]
        self.lr = max(rates)
        if self.numbers is not None:
            self.numbers.fill([*rates, 0.0 if self.average is None else self.average.share(step)])
            return
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _compute(self, *batch: torch.Tensor) -> Values:
        """Run one pass forward and backward."""
        with nullcontext() if self.bf16_copies is None else self.bf16_copies.used():
            values: Values = self.model(*batch)
            self.accelerator.backward(values["loss"] / self.config.accumulate)
        return values

    def _means(self) -> dict[str, float]:
        """Average over steps and ranks (the only wait for the device), and refuse what is not finite."""
        steps = self.step - self.since
        means = dict(zip(self.sums, (self._sums_of_ranks() / steps).tolist(), strict=True))
        if not math.isfinite(means["loss"]):
            saved = list_checkpoints(self.run.checkpoints)
            raise UnipError(
                f"the loss became {means['loss']} between steps {self.step - steps} and {self.step}",
                "Lower --lr, set --clip 1.0 or use --precision fp32 or bf16; "
                + (f"the last good checkpoint is {saved[-1]}." if saved else "no checkpoint was saved yet."),
            )
        return {name: value for name, value in means.items() if math.isfinite(value)}

    def _sums_of_ranks(self) -> torch.Tensor:
        """Return the sums since the last line of the log, the mean over ranks of each."""
        reduced: torch.Tensor = self.accelerator.reduce(torch.stack(list(self.sums.values())), "mean")
        return reduced

    def _rates(self, feed: Feed, steps: int, seconds: float) -> dict[str, float]:
        """Return the run's rate, the rate that the loaders of all ranks could give, and the share of time waited."""
        capacity, waited = feed.account()
        here = torch.tensor([capacity, waited / seconds], dtype=torch.float64, device=self.accelerator.device)
        capacity, waited = self.accelerator.reduce(here, "mean").tolist()
        return {
            "samples_per_second": round(steps * self.config.batch_size / seconds, 2),
            "feed_samples_per_second": round(capacity * self.accelerator.num_processes, 2),
            "feed_wait": round(waited, 4),
        }

    def _log(self, means: dict[str, float], rates: dict[str, float], *, again: bool = False) -> None:
        """Write a line of the log; ``again``: in the place of this step's."""
        if not self.main:
            return
        record = {"step": self.step, **means, "lr": self.lr, **rates}
        write = self.run.replace_log if again else self.run.append_log
        write(record)
        if self.writer is not None:
            self.writer.scalars({name: value for name, value in record.items() if name != "step"}, self.step)

    def _at_end(self) -> bool:
        """Say whether all steps are done, or no better weights came for too long."""
        judged = self.trainable.evaluation
        patience = judged.patience if judged is not None else None
        waited = self.best.waited if self.best is not None else 0
        return self.step >= self.config.steps or (patience is not None and waited >= patience)

    def _evaluates_now(self) -> bool:
        """Say whether an evaluation is due that was not made yet."""
        judged = self.trainable.evaluation
        if judged is None or self.best is None or self.best.judged >= self.step:
            return False
        return self.step % judged.every == 0 or self.step == self.config.steps

    def _evaluate(self, stop: StopRequest) -> dict[str, float]:
        """Let the first rank judge the weights, and keep them on all ranks if they are the best.

        Returns:
            The score by its name; nothing if someone asked to stop meanwhile.
        """
        judged, saved = self.trainable.evaluation, self.trainable.saved
        assert judged is not None and self.best is not None
        with self.average.applied() if self.average is not None else nullcontext():
            found: float | None = None
            if self.main:
                saved.eval()
                with torch.compiler.set_stance("force_eager"):  # other shapes than a step's
                    found = judged.score(lambda: bool(stop))
                self.trainable.model.train()
            here = math.nan if found is None else found
            told = torch.tensor(here, dtype=torch.float64, device=self.accelerator.device)
            score = float(broadcast(told).item())  # the first rank's
            if math.isnan(score):
                return {}
            self.best.offer(score, self.step, saved)
        return {judged.name: score}

    def _show(self) -> None:
        if not self.main or self.trainable.picture is None:
            return
        with torch.compiler.set_stance("force_eager"):  # other shapes than a step's: not worth compiling for
            picture = self.trainable.picture()
        with writing(self.run.path / "pictures" / f"step-{self.step:08d}.png") as temporary:
            Image.fromarray(picture).save(temporary)
        if self.writer is not None:
            self.writer.picture(picture, self.step)

    def _agree(self, stop: StopRequest) -> bool:
        """Stop on all ranks at one step; ranks ask each other only now and then, since asking waits for the device."""
        if self.accelerator.num_processes == 1:
            return bool(stop)
        if self.step % self.config.log_every:
            return False
        flag = torch.tensor(float(bool(stop)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item() > 0)

    def _save(self) -> None:
        sums = dict(zip(self.sums, self._sums_of_ranks().tolist(), strict=True)) if self.sums else {}
        if self.main:
            scaler = self.accelerator.scaler
            save_checkpoint(
                self.run.checkpoints,
                step=self.step,
                model=self.trainable.saved,
                optimizer=self.optimizer,
                extra={
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "sums": {name: str(value) for name, value in sums.items()},  # JSON has no infinity
                    "since": self.since,
                },
                keep=self.config.keep_checkpoints,
                average=self.average,
                best=self.best,
            )
            self.run.outputs.grow("log.jsonl")  # listed as unip's as it is now, in case the run is killed
        self.accelerator.wait_for_everyone()

    def _continue_from_checkpoint(self) -> None:
        found = newest_whole(self.run.checkpoints) if self.main else None
        newest = torch.tensor(step_of(found.path) if found else -1, device=self.accelerator.device)
        step = int(broadcast(newest).item())  # all go on from the one that the first rank sees
        if step >= 0:
            if found:
                log.log(logging.WARNING if found.damaged else logging.INFO, found.message)
            self.step, extra = load_checkpoint(
                checkpoint_path(self.run.checkpoints, step),
                model=self.trainable.saved,
                optimizer=self.optimizer,
                average=self.average,
                best=self.best,
                verified=self.main,  # other ranks may read through another machine
            )
            sums = extra.get("sums", {})  # older checkpoints have none
            self.sums = {
                name: torch.tensor(float(value), device=self.accelerator.device) for name, value in sums.items()
            }
            self.since = int(extra.get("since", self.step))
            if extra["scaler"] and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(extra["scaler"])
        if self.numbers is not None:  # now, since loading makes new groups
            for group, rate in zip(self.optimizer.param_groups, self.numbers.tensor[:-1], strict=True):
                group["lr"] = rate
        if self.main:
            self.run.trim_log(self.step)


def describe_rates(rates: dict[str, float]) -> str:
    """Say in a few words whether the loaders keep up."""
    return f"feed {rates['feed_samples_per_second']:.0f} samples/s, waited for {rates['feed_wait']:.0%} of the time"
