"""What inputs are made from: a study, fields, commands with their options, and values that may break a reader."""

from __future__ import annotations

from mutate import HOSTILE

STUDY = """
schema = 1
name = "small"
[data]
dataset = "digits"
records = 60
[model]
name = "mlp"
hidden = [6]
[train]
epochs = 2
batch_size = 10
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 1
fraction = 0.5
[attacks]
names = ["loss"]
[run]
seeds = [0]
"""
FURTHER = (  # tables that a study may have, too
    '[[networks]]\nmethod = "early-stopped"\nepochs = [1]\n',
    '[[networks]]\nmethod = "butterfly"\nsegments = 1\nfactors = 2\n',
    '[[networks]]\nmethod = "imp"\nname = "other"\nlevels = 2\nfraction = 0.2\nrewind = "init"\ntrain = { lr = 0.2 }\n',
    '[[networks]]\nmethod = "random-mask"\nof = "imp-01"\n',
    '[[networks]]\nmethod = "shuffled-mask"\nof = "imp-01"\nwithin = "inputs"\n',
    '[[networks]]\nmethod = "reinitialised"\nof = "imp-01"\n',
    '[[networks]]\nmethod = "ticket"\nof = "imp-01"\nvary = { "train.epochs" = [1, 2] }\n',
    '[[networks]]\nmethod = "dp-sgd"\nnoise = 0.5\ndelta = 1e-3\nclip = 1.0\n',
    '[[networks]]\nmethod = "dp-sgd"\nepsilon = 50.0\ndelta = 1e-3\n',
    '[[networks]]\nmethod = "dp-imp"\nnoise = 0.5\ndelta = 1e-3\nlevels = 1\nfraction = 0.5\n',
    '[[networks]]\nmethod = "imp-balanced"\nlevels = 1\nfraction = 0.5\nbalance = 4.0\n',
    '[[networks]]\nmethod = "dense"\nname = "short"\nvary = { "train.epochs" = [1, 2] }\n',
    '[tradeoff]\nprimary = { family = "imp", against = "controls", metric = "loss.auc" }\n',
    '[property]\nof = "class 1"\nshares = [[0.1, 0.4]]\nnetworks = 4\nrecords = 10\nasked = 0.3\nstack = 1\n',
    "[signals]\nnoise = 0.1\ndraws = 2\nqueries = 2\nnoise_sizes = [0.1, 0.2]\nnoise_draws = 1\n"
    "boundary_queries = 200\n",
)
FIELDS = {
    "schema": "1",
    "name": '"small"',
    "data.dataset": '"digits"',
    "data.records": "60",
    "data.label_noise": "0.1",
    "data.split": '"random-halves"',
    "data.population": "0.1",
    "data.canaries": "2",
    "data.seed": "1",
    "data.labels": '"fine"',
    "data.tokens": "true",
    "data.padding": "0",
    "data.target": '"y"',
    "data.ignore": '["id"]',
    "data.categories": '["zip"]',
    "model.name": '"mlp"',
    "model.factory": '"own:net"',
    "model.width": "4",
    "model.hidden": "[6]",
    "train.epochs": "2",
    "train.batch_size": "10",
    "train.lr": "0.1",
    "train.optimizer": '"adamw"',
    "train.momentum": "0.9",
    "train.optimizer_options": "{ eps = 1e-6 }",
    "train.clip_norm": "1.0",
    "train.warmup": "0.1",
    "train.fit": '"own:fit"',
    "train.weight_decay": "0.0",
    "train.schedule": '"step"',
    "train.milestones": "[0.5]",
    "train.gamma": "0.1",
    "train.augment": '["flip"]',
    "train.precision": '"bf16"',
    "train.holdout": "0.2",
    "train.stack": "2",
    "train.label_smoothing": "0.1",
    "train.mixup": "0.2",
    "train.dropout": "0.1",
    "model.norm": '"group"',
    "data.groups": '["duplicates"]',
    "run.inits": "2",
    "networks.0.method": '"dense"',
    "networks.0.name": '"plain"',
    "networks.0.train": "{ epochs = 3 }",
    "networks.1.levels": "1",
    "networks.1.fraction": "0.5",
    "networks.1.rewind": '"epoch 1"',
    "networks.1.train.epochs": "3",
    "networks.2.method": '"butterfly"',
    "signals.noise": "0.001",
    "signals.draws": "2",
    "signals.queries": "2",
    "signals.noise_sizes": "[0.1, 0.2]",
    "signals.noise_draws": "1",
    "signals.boundary_queries": "200",
    "property.of": '"redrawn labels"',
    "property.shares": "[[0.1, 0.3]]",
    "property.networks": "4",
    "property.records": "10",
    "property.asked": "0.3",
    "attacks.names": '["loss"]',
    "run.seeds": "[0]",
}
OWN = """
import torch

def net(shape, classes):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, classes))

def fit(model, x, y, *, guard, seed, on_epoch, epochs):
    guard.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(epochs):
        on_epoch(1.0, 0.5)
"""
COMMANDS: dict[str, tuple[int, tuple[str, ...]]] = {  # how many arguments, and options
    "run": (1, ("--out", "--budget", "--only", "--reuse", "--keep", "--device", "--set", "--data-root", "--processes",
                "--estimate", "--show-records", "--json", "--tensorboard")),
    "report": (1, ("--show-records", "--json")),
    "status": (1, ("--json",)),
    "merge": (2, ("--json",)),
    "export": (2, ("--to",)),
    "audit": (1, ("--model", "--weights", "--data", "--refit", "--references", "--attack", "--fail-if", "--junit",
                  "--delta", "--seed", "--out", "--json")),
    "audit-attribute": (0, ("--model", "--weights", "--data", "--column", "--task", "--outputs", "--seed", "--json")),
    "audit-ranges": (1, ("--model", "--weights", "--data", "--other", "--points", "--task", "--outputs", "--json")),
    "audit-usage": (1, ("--model", "--weights", "--data", "--refit", "--references", "--out", "--json")),
    "compare": (3, ("--attack", "--json")),
    "sparsify": (0, ("--model", "--to", "--weights", "--method", "--density", "--pattern", "--scope", "--ignore",
                     "--factors", "--parts-to", "--shape", "--classes", "--seed", "--json")),
    "init": (1, ()),
    "data list": (0, ("--data-root", "--json")),
    "data check": (1, ("--data-root",)),
    "bench butterfly": (1, ("--sizes", "--dtype", "--device")),
}  # fmt: skip
VALUES = (
    *HOSTILE,
    *map(str, (0, -1, 3, 7.5, 10**30)),
    "run",
    "small.toml",
    "scores.npz",
    "own.npz",
    "dense",
    "imp-01",
    "imp-01/target/0",
    "dense/target/7",
    "x.safetensors",
    "x.onnx",
    "loss",
    "all",
    "discriminator",
    "own:net",
    "os:system",
    "own:",
    "role=target,seed=0",
    "role=shadow",
    "seed=x",
    "5s",
    "9h",
    "1e9m",
    "cpu",
    "cuda",
    "train.epochs=1",
    "networks.0.train.lr=0.5",
    "scores.auc > 0.5",
    "any.tpr@0.001 >= 1e-3",
    "h100:8",
    "h100:99999999999999999999",
    "3,32,32",
    "2:4",
    "0.3",
    "1e-5",
    "digits",
    "location30",
    ".",
    "/dev/null",
)
