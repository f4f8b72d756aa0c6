"""An Optuna study with two objectives, latency and accuracy; plots the Pareto front.

    pip install 'lat-search[examples]'; python optuna_pareto.py [pareto.html]

A trial chooses a network, predicts its latency from the table, and trains it briefly on
scikit-learn's digits. Trials on the Pareto front are printed with an asterisk.
"""

import sys

import optuna
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy, interpolate

from latency import LatencyTable, NetworkSpec, OpSpec
from latency.modules import NetworkModule

TABLE = "amd-epyc-family-25-model-1-2-cpus-onnxruntime-1.32.0"  # or a path to your own CSV
TRIALS, STEPS, BATCH, TRAIN = 8, 20, 16, 1500
STEM = """conv-32x32x3-16-k3-s2-relu6 mbconv-16x16x16-24-k3-s1-e3-relu6
    mbconv-16x16x24-40-k3-s2-e3-relu6"""
BLOCKS = [(8, 40, 80, 2), (4, 80, 80, 1), (4, 80, 80, 1)]
HEAD = "conv-4x4x80-256-k1-s1-relu6 pool-4x4x256-256-k4-s1 linear-1x1x256-10-k1-s1"


def network(trial: optuna.Trial) -> NetworkSpec:
    """The trial suggests kernel, expansion and, in blocks that keep the shape, skip."""
    ops = [OpSpec.parse(key) for key in STEM.split()]
    for i, (size, inputs, outputs, stride) in enumerate(BLOCKS):
        kernel = trial.suggest_categorical(f"kernel {i}", [3, 5, 7])
        expansion = trial.suggest_categorical(f"expansion {i}", [3, 6])
        shape = (size, size, inputs, outputs)
        if stride > 1 or not trial.suggest_categorical(f"skip {i}", [True, False]):
            ops.append(OpSpec("mbconv", *shape, kernel, stride, expansion, "relu6"))
    return NetworkSpec.of(f"trial {trial.number}", (*ops, *map(OpSpec.parse, HEAD.split())))


def accuracy(spec: NetworkSpec, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy after a brief training, on the samples after the first TRAIN. Batch norm uses the
    statistics of these samples (training mode)."""
    torch.manual_seed(0)
    net = NetworkModule(spec.ops)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(STEPS):
        batch = torch.randint(TRAIN, (BATCH,))
        loss = cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (net(images[TRAIN:]).argmax(-1) == labels[TRAIN:]).float().mean().item()


def main() -> None:
    torch.set_num_threads(1)  # such small layers are not faster with more threads
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pixels, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    images = interpolate(pixels.float().reshape(-1, 1, 8, 8) / 8 - 1, 32).repeat(1, 3, 1, 1)
    table = LatencyTable.load(TABLE)

    def objectives(trial: optuna.Trial) -> tuple[float, float]:
        spec = network(trial)
        return table.predict(spec).ms, accuracy(spec, images, labels)

    sampler = optuna.samplers.TPESampler(n_startup_trials=6, seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.optimize(objectives, TRIALS)
    front = {trial.number for trial in study.best_trials}
    for trial in study.trials:
        ms, correct = trial.values
        print(f"{trial.number:3} {ms:.6f} ms {correct:.6f} {'*' if trial.number in front else ''}")
    figure = optuna.visualization.plot_pareto_front(study, target_names=["ms", "accuracy"])
    figure.write_html(sys.argv[1] if len(sys.argv) > 1 else "pareto.html")


if __name__ == "__main__":
    main()
