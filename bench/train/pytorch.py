"""The trainer of nearcast-models in PyTorch, to compare speed with; run by bench/train.sh.

Reads the batches that models/examples/train_speed.rs wrote, and learns from them with the same architecture: a GRU of
the same widths over the sum of a key's embedding and the mean of its tokens' embeddings, a projection, scores against
the batch's targets and sampled negatives, the same loss, Adam with clipped gradients for the dense weights and Adagrad
for embedding rows. Prints one JSON line: the events per second of every variant that was tried, as the median over slices of a tenth of a
second, in the best of them, and per second of processor time.

The variants differ in how rows are stored and updated; all do the same mathematics but `sparse-adagrad` and
`dense-adagrad`, whose Adagrad keeps a sum of squares per number instead of per row:

- rows:            rows are gathered into leaves, as Nearcast does, and updated with index_add_ (row-wise Adagrad)
- sparse-adagrad:  nn.Embedding(sparse=True) with torch.optim.Adagrad
- sparse-adam:     nn.Embedding(sparse=True) with torch.optim.SparseAdam
- dense-adagrad:   nn.Embedding with torch.optim.Adagrad, for small tables only

`+compile` puts the arithmetic between rows and loss through torch.compile. With `--device cuda` everything lives on the
GPU: tables, batches and the negatives' generator; the loss is read after each step, as Nearcast does.
"""

import argparse
import json
import math
import statistics
import time

import numpy as np
import torch
from torch import nn

PENALTY = 0.02
NORM_MAX = 5.0
RATE = 0.003
ROW_RATE = 0.1
DENSE_ROWS_MAX = 20_000
SLICE = 0.1


class Data:
    """What train_speed.rs wrote: a JSON line, then little-endian numbers of 32 bits."""

    def __init__(self, path, device):
        self.device = device
        with open(path, "rb") as file:
            head = json.loads(file.readline())
            numbers = np.frombuffer(file.read(), dtype="<u4").astype(np.int64)
        self.keys, self.lanes, self.steps = head["keys"], head["lanes"], head["steps"]
        self.embedding, self.hidden = head["embedding_width"], head["hidden_width"]
        self.negatives, self.power, self.buckets = head["negatives"], head["negative_power"], head["token_buckets"]
        counts, rest = np.split(numbers, [self.keys])
        tokens, cells = np.split(rest, [self.keys * head["tokens"]])
        tokens = torch.from_numpy(tokens.reshape(self.keys, head["tokens"])).to(device)
        self.tokens = tokens if head["tokens"] else None
        cells = torch.from_numpy(cells.reshape(-1, 3, self.steps, self.lanes)).to(device)
        self.batches = [(b[0], b[1], 1.0 - b[2].float()) for b in cells]
        self.events = self.lanes * self.steps
        self.shares = torch.from_numpy(counts / counts.sum()).double().to(device)
        self.proposal = torch.from_numpy(counts.astype(np.float64) ** self.power).to(device)
        self.proposal /= self.proposal.sum()
        self.cumulative = self.proposal.cumsum(0)

    def candidates(self, targets):
        """The distinct candidates, where each target is among them, and the logarithms of their chances."""
        draws = torch.searchsorted(self.cumulative, torch.rand(self.negatives, dtype=torch.float64, device=self.device))
        draws.clamp_(max=self.keys - 1)
        items, places = torch.unique(torch.cat([targets, draws]), return_inverse=True)
        expected = len(targets) * self.shares[items] + self.negatives * self.proposal[items]
        return items, places[: len(targets)], torch.log(-torch.expm1(-expected)).float()


class Dense(nn.Module):
    """Everything between the vectors of a batch and its loss."""

    def __init__(self, embedding, hidden):
        super().__init__()
        self.cell = nn.GRUCell(embedding, hidden)
        self.projection = nn.Linear(hidden, embedding, bias=False)

    def forward(self, inputs, candidates, biases, log_chances, labels, keeps, state):
        states = []
        for step in range(inputs.shape[0]):
            state = self.cell(inputs[step], state * keeps[step].unsqueeze(1))
            states.append(state)
        queries = self.projection(torch.cat(states))
        scores = torch.addmm(biases - log_chances, queries, candidates.t())
        log_sum = torch.logsumexp(scores, 1)
        target = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
        own = target + log_chances[labels]
        partition = log_sum + torch.log1p(torch.exp(own - log_sum) - torch.exp(target - log_sum))
        return (log_sum - target + PENALTY * partition * partition).mean(), state.detach()


class Rows:
    """Tables whose rows are gathered into leaves and updated by hand: row-wise Adagrad."""

    def __init__(self, data):
        width = data.embedding
        self.tables = {"items": torch.empty(data.keys, width).uniform_(-0.1, 0.1), "biases": torch.zeros(data.keys, 1)}
        if data.tokens is not None:
            self.tables["tokens"] = torch.empty(data.buckets, width).uniform_(-0.1, 0.1)
            self.tables["token_biases"] = torch.zeros(data.buckets, 1)
        self.squares = {name: torch.zeros(len(table)) for name, table in self.tables.items()}
        self.data = data

    def gather(self, items):
        vectors, biases = self.tables["items"][items], self.tables["biases"][items]
        if self.data.tokens is not None:
            tokens = self.data.tokens[items]
            vectors += nn.functional.embedding_bag(tokens, self.tables["tokens"], mode="mean")
            biases += self.tables["token_biases"][tokens].mean(1)
        return vectors.requires_grad_(), biases.squeeze(1).requires_grad_()

    def step(self, inputs, candidates, input_vectors, candidate_vectors, biases):
        items = torch.cat([inputs, candidates])
        gradients = torch.cat([input_vectors.grad, candidate_vectors.grad])
        self.learn("items", items, gradients)
        self.learn("biases", candidates, biases.grad.unsqueeze(1))
        if self.data.tokens is not None:
            for name, items, gradients in [
                ("tokens", items, gradients),
                ("token_biases", candidates, biases.grad.unsqueeze(1)),
            ]:
                tokens = self.data.tokens[items]
                shared = (gradients / tokens.shape[1]).repeat_interleave(tokens.shape[1], 0)
                self.learn(name, tokens.flatten(), shared)

    def learn(self, name, rows, gradients):
        rows, places = torch.unique(rows, return_inverse=True)
        sums = gradients.new_zeros(len(rows), gradients.shape[1]).index_add_(0, places, gradients)
        squares = self.squares[name]
        squares.index_add_(0, rows, sums.square().mean(1))
        self.tables[name].index_add_(0, rows, sums * (-ROW_RATE / (squares[rows].sqrt() + 1e-8)).unsqueeze(1))


class Embeddings:
    """Tables as nn.Embedding, learned by an optimiser of torch."""

    def __init__(self, data, optimiser, sparse):
        width = data.embedding
        self.items, self.biases = nn.Embedding(data.keys, width, sparse=sparse), nn.Embedding(data.keys, 1, sparse=sparse)
        tables = [self.items, self.biases]
        if data.tokens is not None:
            self.tokens = nn.EmbeddingBag(data.buckets, width, mode="mean", sparse=sparse)
            self.token_biases = nn.EmbeddingBag(data.buckets, 1, mode="mean", sparse=sparse)
            tables += [self.tokens, self.token_biases]
        for table in tables:
            nn.init.uniform_(table.weight, -0.1, 0.1) if table.embedding_dim > 1 else nn.init.zeros_(table.weight)
        self.optimiser = optimiser([table.weight for table in tables], lr=ROW_RATE)
        self.data = data

    def gather(self, items):
        vectors, biases = self.items(items), self.biases(items)
        if self.data.tokens is not None:
            tokens = self.data.tokens[items]
            vectors, biases = vectors + self.tokens(tokens), biases + self.token_biases(tokens)
        return vectors, biases.squeeze(1)

    def step(self, *_):
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def run(data, variant, seconds, warm_up):
    """Events a second of a variant, in the median and the best slice of its time, and the loss it ended with."""
    torch.manual_seed(1)
    name, _, compiled = variant.partition("+")
    with torch.device(data.device):
        tables = {
            "rows": lambda: Rows(data),
            "sparse-adagrad": lambda: Embeddings(data, torch.optim.Adagrad, True),
            "sparse-adam": lambda: Embeddings(data, torch.optim.SparseAdam, True),
            "dense-adagrad": lambda: Embeddings(data, torch.optim.Adagrad, False),
        }[name]()
        dense = Dense(data.embedding, data.hidden)
        state = torch.zeros(data.lanes, data.hidden)
    optimiser = torch.optim.Adam(dense.parameters(), lr=RATE, fused=True)
    forward = torch.compile(dense, dynamic=True) if compiled else dense
    steps, losses, rates = 0, [], []
    started = slice_started = slice_steps = processor_started = None
    while not rates or time.perf_counter() - started < seconds:
        now = time.perf_counter()
        if steps == warm_up:
            started, slice_started, slice_steps = now, now, steps
            processor_started = time.process_time()
        elif started is not None and now - slice_started >= SLICE:
            rates.append((steps - slice_steps) * data.events / (now - slice_started))
            slice_started, slice_steps = now, steps
        inputs, targets, keeps = data.batches[steps % len(data.batches)]
        inputs, targets = inputs.flatten(), targets.flatten()
        items, labels, log_chances = data.candidates(targets)
        input_vectors, _ = tables.gather(inputs)
        vectors, biases = tables.gather(items)
        shaped = input_vectors.view(data.steps, data.lanes, -1)
        loss, state = forward(shaped, vectors, biases, log_chances, labels, keeps, state)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(dense.parameters(), NORM_MAX)
        optimiser.step()
        with torch.no_grad():
            tables.step(inputs, items, input_vectors, vectors, biases)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SystemExit(f"{variant}: the loss of step {steps} is {losses[-1]}")
        steps += 1
    processor = (steps - warm_up) * data.events / (time.process_time() - processor_started)
    return {
        "events_per_second": round(statistics.median(rates)),
        "best": round(max(rates)),
        "events_per_processor_second": round(processor),
        "loss": round(float(np.mean(losses[-20:])), 3),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("batches")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--variants", default="rows,sparse-adagrad,sparse-adam,dense-adagrad")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Data(arguments.batches, arguments.device)
    variants = {}
    for variant in arguments.variants.split(","):
        if variant.startswith("dense") and data.keys > DENSE_ROWS_MAX:
            continue
        variants[variant] = run(data, variant, arguments.seconds, warm_up=20)
    print(json.dumps({"torch": torch.__version__, "device": arguments.device, "keys": data.keys, "variants": variants}))


if __name__ == "__main__":
    main()
