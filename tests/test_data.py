"""Data sets and augmentation: what the tensors hold, and what happens where files are missing or
wrong."""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_plugins.datasets.cifar import Cifar10, Cifar100
from bench_plugins.datasets.cifar_files import sha256
from bench_plugins.datasets.digits import Digits
from bench_plugins.datasets.linear_quadratic import LinearQuadratic
from bench_plugins.datasets.teacher import Teacher
from nets import arch, toy_data
from pydantic import ValidationError

from bench_core.errors import BenchError, DataError
from bench_core.suite.claim import MAX_SEED
from bench_core.training.data import Data, crop_and_flip, loaded
from bench_core.training.loss import SQUARED_ERROR
from bench_core.training.params import resolved
from bench_core.training.rng import stream

REAL = Path(os.environ.get("BENCH_DATA_DIR", "data"))


@pytest.fixture(scope="module")
def cifar():
    if not (REAL / "cifar-10-batches-py" / "test_batch").exists():
        pytest.skip(
            f"no CIFAR-10 files in {REAL}: set BENCH_DATA_DIR to the folder that holds "
            "cifar-10-batches-py"
        )
    dataset = Cifar10(Cifar10.Params())
    dataset.prepare(REAL)
    return dataset.load(REAL)


def test_crop_and_flip_is_torchvisions_per_image():
    """Every image is what torchvision's crop of the zero-padded image, and its flip, give."""
    from torchvision.transforms import functional as T

    draws = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 32, 32, generator=draws)
    down, right = torch.randint(0, 9, (2, 64, 1), generator=draws)
    flip = torch.rand(64, 1, generator=draws) < 0.5
    found = crop_and_flip(x, down, right, flip)
    for image, dy, dx, mirrored, got in zip(x, down, right, flip, found, strict=True):
        expected = T.crop(T.pad(image, [4]), int(dy), int(dx), 32, 32)
        assert torch.equal(T.hflip(expected) if mirrored else expected, got)


def test_shifts_and_flips_are_uniform_and_per_image():
    """A one-pixel image lands everywhere that a 9×9 shift and a flip can put it, about equally
    often."""
    images = torch.zeros(8100, 1, 32, 32, dtype=torch.uint8)
    images[:, :, 16, 10] = 255
    data = Data(
        images,
        torch.zeros(8100, dtype=torch.long),
        images[:1],
        torch.zeros(1),
        2,
        (0.0,),
        (1.0,),
        augment=True,
    )
    x = torch.cat([x for x, _ in data.epoch(90, stream(0, "order"), stream(0, "augmentation"))])
    rows, columns = x.flatten(1).argmax(1) // 32, x.flatten(1).argmax(1) % 32
    assert set(rows.tolist()) == set(range(12, 21))
    assert set(columns.tolist()) == set(range(6, 15)) | set(range(17, 26))
    counts = torch.bincount(rows, minlength=21)[12:]
    assert float(counts.max() / counts.min()) < 1.25
    assert 0.47 < float((columns < 16).double().mean()) < 0.53


def test_an_epoch_shows_every_image_once_and_drops_the_partial_batch():
    data = toy_data(n=100)
    batches = list(data.epoch(32, stream(0, "order"), stream(0, "augmentation")))
    assert [len(y) for _, y in batches] == [32, 32, 32]
    seen = torch.cat([x for x, _ in batches])
    assert len(seen.unique(dim=0)) == 96


def test_order_differs_between_epochs_and_seeds_and_repeats_with_the_seed():
    data = toy_data(n=64)
    one, again, other = stream(1, "order"), stream(1, "order"), stream(2, "order")
    first = next(data.epoch(64, one, one))[1]
    assert torch.equal(first, next(data.epoch(64, again, again))[1])
    assert not torch.equal(first, next(data.epoch(64, one, one))[1])
    assert not torch.equal(first, next(data.epoch(64, other, other))[1])


def test_limit_takes_the_first_training_images_and_leaves_the_test_set():
    data = toy_data(n=64)
    limited = data.limit(10)
    assert torch.equal(limited.train_x, data.train_x[:10])
    assert len(limited.test_y) == len(data.test_y)


def test_digits_are_scaled_over_the_training_set():
    data = Digits(Digits.Params()).load(None)
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert data.test_x.shape == (360, 1, 8, 8)
    assert float(data.train_x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(data.train_x.std()) == pytest.approx(1, abs=1e-3)
    both = torch.cat([data.train_x, data.test_x]).flatten(1)
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().data).float()
    # the same images
    assert torch.allclose(both.sort(0).values.diff().sign(), original.sort(0).values.diff().sign())


def test_linear_quadratic_is_a_linear_map_with_targets_of_unit_variance():
    data = LinearQuadratic(LinearQuadratic.Params()).load(None)
    assert data.train_x.shape == (51_200, 64)
    assert data.test_y.shape == (1280, 10)
    assert data.loss.name == "squared_error"
    target = torch.linalg.lstsq(data.train_x, data.train_y).solution
    torch.testing.assert_close(data.test_x @ target, data.test_y, rtol=1e-3, atol=1e-4)
    assert data.train_y.var(0).mean() == pytest.approx(1.0, abs=0.2)
    assert torch.equal(data.train_y, LinearQuadratic(LinearQuadratic.Params()).load(None).train_y)


@pytest.mark.long
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_teacher_has_the_students_form(alpha):
    """50,000 + 10,000 inputs N(0, I_128); a student_net with the teacher's weights and the same
    α gives all its labels."""
    from bench_plugins.archs.student_net import StudentNet

    teacher = Teacher(Teacher.Params(alpha=alpha))
    data = teacher.load(None)
    assert (len(data.train_y), len(data.test_y)) == (50_000, 10_000)
    draws = teacher.generator()
    net = StudentNet(StudentNet.Params(alpha=alpha), (128,), 10)
    with torch.no_grad():
        for block in net.blocks:
            block.w.weight.copy_(128**-0.5 * torch.randn(128, 128, generator=draws).T)
        net.readout.weight.copy_(128**-0.5 * torch.randn(128, 10, generator=draws).T)
        net.readout.bias.zero_()
        labels = net.states(data.test_x).logits.argmax(1)
    # rounding decides a tie here and there
    assert float((labels == data.test_y).double().mean()) > 0.999
    assert float(data.test_x.std()) == pytest.approx(1.0, abs=0.01)
    assert len(data.train_y.unique()) == 10


def test_teacher_is_the_same_every_time_and_its_dial_turns():
    one, again = (Teacher(Teacher.Params(alpha=0.5)).load(None) for _ in range(2))
    assert torch.equal(one.train_y, again.train_y)
    linear = Teacher(Teacher.Params(alpha=0.0)).load(None)
    assert torch.equal(one.train_x, linear.train_x)
    assert 0.01 < float((one.train_y != linear.train_y).double().mean()) < 0.9
    assert one.train_x.shape == (50_000, 128)
    assert len(one.train_y.unique()) == 10


def test_a_student_with_any_seed_begins_unlike_its_teacher(monkeypatch) -> None:
    """With seed 0 it once began with the teacher's weights: correlation 1."""
    from bench_plugins.archs.student_net import StudentNet

    taught = []
    monkeypatch.setattr(Teacher, "label", lambda self, x, blocks, head: taught.extend(blocks) or x)
    Teacher(Teacher.Params()).load(None)
    for seed in (0, 1, 42):
        torch.manual_seed(seed)
        student = StudentNet(StudentNet.Params(), (128,), 10)
        for block in student.blocks:
            pairs = (torch.stack([block.w.weight.flatten(), W.flatten()]) for W in taught)
            assert max(abs(torch.corrcoef(pair.detach())[0, 1]) for pair in pairs) < 0.05


def test_linear_quadratic_shares_no_number_with_a_network() -> None:
    data = LinearQuadratic(LinearQuadratic.Params()).load(None)
    target = torch.linalg.lstsq(data.train_x, data.train_y).solution
    for seed in (0, 1, 42):
        torch.manual_seed(seed)
        first = torch.randn(64, 10)
        assert abs(torch.corrcoef(torch.stack([first.flatten(), target.flatten()]))[0, 1]) < 0.2


SEEDED = {  # why a module may seed a generator itself
    "bench_core/training/rng.py": "it makes the streams",
    "bench_core/training/build.py": "the stream init is the seed itself",
    "bench_core/training/net.py": "the stream init again, for a network built anew",
    "bench_core/execution/remeasure.py": "it asks whether a credit draws, and keeps no number",
    "plugins/methods/redrawn.py": "from the seed of a stream and the step",
    "plugins/diagnostics/fresh_feedback.py": "from numbers of a stream",
}


def test_every_draw_of_core_and_plugins_comes_from_a_named_stream() -> None:
    root = Path(__file__).parent.parent
    own = [
        path
        for folder in ("bench_core", "plugins", "examples/parts")
        for path in (root / folder).rglob("*.py")
        if "bench_core/testing" not in str(path) and "manual_seed(" in path.read_text()
    ]
    assert {str(path.relative_to(root)) for path in own} == set(SEEDED)


def test_torch_tells_apart_all_seeds_that_a_suite_may_have() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.nn.Linear(3, 3).weight

    assert torch.equal(weights(1), weights(MAX_SEED + 2))  # so larger seeds are refused
    assert not torch.equal(weights(0), weights(MAX_SEED))


# -------------------------------------------------------------------------------- CIFAR-10 files


class AsPython2(pickle._Pickler):
    """Writes what the originals' Python 2 wrote: protocol 2, strings as bytes, numpy's old
    module name."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, text: bytes) -> None:
        self.write(pickle.BINSTRING + len(text).to_bytes(4, "little") + text)
        self.memoize(text)

    dispatch[bytes] = save_bytes
    dispatch[str] = lambda self, text: self.save_bytes(text.encode("latin1"))


def as_python_2(body: dict) -> bytes:
    import io

    file = io.BytesIO()
    AsPython2(file, 2).dump(body)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_tiny(root: Path, kind: type[Cifar10] = Cifar10) -> type[Cifar10]:
    """Files in the true format with two images each, and a data set class that expects exactly
    these."""
    home = root / kind.source.folder
    home.mkdir(parents=True)
    draws = np.random.RandomState(0)
    for name in kind.source.sums:
        images = draws.randint(0, 256, (2, 3072)).astype(np.uint8)
        own = [int(draws.randint(kind.classes)), 1]
        body = {
            "data": images,
            kind.labels: own,
            "batch_label": f"batch {name}",
            "filenames": ["a.png", "b.png"],
        }
        if kind is Cifar100:
            body["coarse_labels"] = [19, 0]
        if name not in (*kind.train_files, *kind.test_files):
            body = {"label_names": [str(i) for i in range(kind.classes)]}
        (home / name).write_bytes(as_python_2(body))

    class Tiny(kind):
        source = replace(kind.source, sums={name: sha256(home / name) for name in kind.source.sums})

    return Tiny


def test_cifar100_has_coarse_labels_and_the_first_k_classes(tmp_path):
    """The tiny files have the coarse labels 19 and 0, and the fine label 1 second."""
    tiny = write_tiny(tmp_path, Cifar100)

    def load(**params):
        made = tiny(tiny.Params(**params))
        data = made.load(tmp_path)
        assert made.classes == data.classes
        return data

    whole, coarse = load(), load(labels="coarse")
    assert (whole.classes, coarse.classes, coarse.train_y.tolist()) == (100, 20, [19, 0])
    assert torch.equal(coarse.train_x, whole.train_x)
    few = load(labels="coarse", classes=2)
    assert (few.classes, few.train_y.tolist()) == (2, [0])
    assert torch.equal(few.train_x, whole.train_x[1:])
    assert whole.train_y[1] == load(classes=10).train_y[-1] == 1


def test_a_cell_of_cifar100_without_its_new_options_is_the_old_one():
    Params = Cifar100.Params
    assert resolved(Params()) == resolved(Params(classes=100)) == {"padding": "mean"}
    assert resolved(Params(labels="coarse", classes=20)) == {"padding": "mean", "labels": "coarse"}
    with pytest.raises(ValidationError, match="at most 20 with labels: coarse"):
        Params(labels="coarse", classes=50)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_asks_for_more_than_arrays_is_not_obeyed_even_with_the_right_sum(tmp_path):
    """Behind the sums: the unpickler knows numpy arrays and plain data, and nothing that could
    run code."""
    tiny = write_tiny(tmp_path, Cifar100)
    marker = tmp_path / "executed"
    path = tmp_path / "cifar-100-python" / "train"
    path.write_bytes(pickle.dumps({"data": Malicious(marker), "fine_labels": []}))
    tiny.source = replace(tiny.source, sums={**tiny.source.sums, "train": sha256(path)})
    with pytest.raises(
        DataError, match=r"train: not a batch file of CIFAR: it asks for (posix|nt|os)\.system"
    ):
        tiny(tiny.Params()).load(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "body", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({"data": np.zeros((2, 5))})]
)
def test_a_file_that_is_no_batch_file_is_one_line(tmp_path, body):
    from bench_plugins.datasets.cifar_files import read

    (tmp_path / "train").write_bytes(body)
    with pytest.raises(DataError, match=r"^\S+/train: not a batch file of CIFAR: [^\n]+$"):
        read(tmp_path / "train", "labels")


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_a_replaced_pickle_is_refused_without_being_opened(tmp_path, name):
    tiny = write_tiny(tmp_path)
    marker = tmp_path / "executed"
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Malicious(marker)))
    for call in (tiny(tiny.Params()).prepare, tiny(tiny.Params()).load):
        with pytest.raises(DataError, match=rf"{name}: corrupt: SHA-256 is .* it was not opened"):
            call(tmp_path)
    assert not marker.exists()


def test_missing_files_offline_give_one_line_that_says_where_they_must_lie(tmp_path, monkeypatch):
    import urllib.request

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError) as caught:
        Cifar10(Cifar10.Params()).prepare(tmp_path / "nothing")
    text = str(caught.value)
    assert "\n" not in text
    for part in ("data_batch_1", "missing", "download failed", "--data-dir", "BENCH_DATA_DIR"):
        assert part in text
    assert not (tmp_path / "nothing").exists()


def test_a_wrong_archive_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    import torchvision.datasets.utils as utils

    monkeypatch.setattr(
        utils, "download_url", lambda url, root, name: (Path(root) / name).write_bytes(b"not a tar")
    )
    with pytest.raises(DataError, match="not the original"):
        Cifar10(Cifar10.Params()).prepare(tmp_path)
    assert not list(tmp_path.glob(".download-*"))


@pytest.mark.long
def test_real_files_have_the_published_statistics(cifar):
    assert cifar.train_x.shape == (50_000, 3, 32, 32)
    assert cifar.test_y.bincount().tolist() == [1000] * 10
    x = cifar.normalise(cifar.train_x)
    assert x.mean((0, 2, 3)).abs().max() < 1e-3
    assert (x.std((0, 2, 3)) - 1).abs().max() < 2e-3


@pytest.mark.parametrize(("seed", "stability"), [(42, 0.177), (123, 0.080), (456, 0.160)])
def test_the_untrained_network_is_the_published_one(cifar, seed, stability):
    """Random init of resmlp on CIFAR-10: c as measured by the protocol to three digits, ‖h_l‖
    8.7–8.9, per-sample ‖g_L‖ ≈ 1."""
    from bench_plugins.archs.resmlp import ResMLP
    from bench_plugins.diagnostics.batch_stability import BatchStability
    from bench_plugins.diagnostics.reference_floor import ReferenceFloor
    from bench_plugins.diagnostics.scale_growth import ScaleGrowth

    from bench_core.training.audit import Audit

    torch.manual_seed(seed)
    audit = Audit(ResMLP(ResMLP.Params(), (3, 32, 32), 10), None, cifar, seed, 0)
    assert BatchStability(BatchStability.Params()).measure(audit).value == pytest.approx(
        stability, abs=0.0006
    )
    assert all(8.6 < h < 9.0 for h in ScaleGrowth(ScaleGrowth.Params()).measure(audit).details["h"])
    assert ReferenceFloor(ReferenceFloor.Params()).measure(audit).value == pytest.approx(
        1.0, abs=0.05
    )


@pytest.mark.parametrize("seed", [42, 123, 456])
@pytest.mark.parametrize("name", ["relu_mlp", "student_net"])
def test_other_untrained_networks_fire_none_of_a_b_c_either(cifar, name, seed):
    """(small_cnn neither, measured; vit_mini and small_resnet prefer a class whatever the image,
    and fire c: RESULTS.md.)"""
    from bench_plugins.diagnostics.batch_stability import BatchStability
    from bench_plugins.diagnostics.reference_floor import ReferenceFloor
    from bench_plugins.diagnostics.scale_growth import ScaleGrowth

    from bench_core.training.audit import Audit

    audit = Audit(arch(name, (3, 32, 32), 10, seed=seed), None, cifar, seed, 0)
    assert ScaleGrowth(ScaleGrowth.Params()).measure(audit).value < 2
    assert ReferenceFloor(ReferenceFloor.Params()).measure(audit).value > 0.1
    assert BatchStability(BatchStability.Params()).measure(audit).value < 0.2


@pytest.mark.parametrize("score", [1.7, -0.1, float("nan"), float("inf")])
def test_a_score_outside_0_to_1_ends_the_run(score: float) -> None:
    """A data set brings its loss, and with it what stands for accuracy."""
    from nets import resmlp, toy_data

    from bench_core.errors import BenchError
    from bench_core.training.evaluation import evaluate
    from bench_core.training.loss import CrossEntropy

    class Boasting(CrossEntropy):
        def score(self, logits, y) -> float:
            return score

    net = resmlp()
    net.loss = Boasting()
    with pytest.raises(BenchError, match=r"cross_entropy\) is .*, not in 0 … 1"):
        evaluate(net, toy_data())


X, Y = torch.zeros(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
SOUND = {"train_x": X, "train_y": Y, "test_x": X, "test_y": Y, "classes": 3}
IMAGES = torch.zeros(6, 3, 2, 2, dtype=torch.uint8)
REGRESSION = {"loss": SQUARED_ERROR, "test_y": X[:, :3]}
TARGETS = {**REGRESSION, "train_y": X[:, :3]}
UNFIT = {
    "train_x is torch.float64, not uint8 or float32": {"train_x": X.double()},
    "test_x is not finite everywhere": {"test_x": X.clone().fill_(np.nan)},
    "train: inputs of shape (6, 4) and labels of (5,)": {"train_y": Y[:5]},
    "test: inputs of shape (0, 4) and labels of (0,)": {"test_x": X[:0], "test_y": Y[:0]},
    "train_x and train_y are ndarray and Tensor, not tensors of torch": {"train_x": X.numpy()},
    "train_x is uint8, which needs (N, channels, height, width) and a mean": {"train_x": IMAGES},
    "test_y is torch.float32 of shape (6,), not int64 (N,)": {"test_y": Y.float()},
    "train_y is torch.int64 of shape (6, 1), not int64 (N,)": {"train_y": Y[:, None]},
    "train_y has the classes 1 … 3, not 0 … 2": {"train_y": Y + 1},
    "test_y has the classes -1 … 1, not 0 … 2": {"test_y": Y - 1},
    "train_y is torch.int64 of shape (6,); squared_error takes float32 (N, 3)": REGRESSION,
    "train_y is torch.float32 of shape (6,); squared_error takes": {
        **REGRESSION,
        "train_y": X[:, 0],
    },
    "test_y is not finite everywhere": {**TARGETS, "test_y": X[:, :3] / 0},
    "validation_x is torch.float64": {"validation_x": X.double(), "validation_y": Y},
    "validation_x and validation_y are NoneType and Tensor": {"validation_y": Y},
    "train: inputs of shape () and labels of (6,)": {"train_x": X[0, 0]},
    "test_x has inputs of shape (3,); the data set says (4,)": {"test_x": X[:, :3]},
    "the tensors have 4 classes; the data set says 3": {"classes": 4},
}


class Loads(Digits):
    shape, classes, given = (4,), 3, None

    def load(self, folder):
        return self.given


@pytest.mark.parametrize("fault", UNFIT)
def test_tensors_that_a_training_cannot_take_are_named(fault: str) -> None:
    dataset = Loads(Digits.Params())
    dataset.given = Data(**SOUND)
    assert loaded(dataset, None) is dataset.given
    dataset.given = Data(**{**SOUND, **TARGETS})
    assert loaded(dataset, None) is dataset.given
    dataset.given = Data(**{**SOUND, **UNFIT[fault]})
    with pytest.raises(BenchError, match=rf"^Loads\.load\(\): {re.escape(fault)}"):
        loaded(dataset, None)


def test_what_is_no_data_is_named() -> None:
    dataset = Loads(Digits.Params())
    dataset.given = (X, Y)
    with pytest.raises(BenchError, match=r"returned tuple, not bench_core\.api\.Data$"):
        loaded(dataset, None)
