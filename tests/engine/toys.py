"""Small methods and a loader for engine tests."""

import torch
from torch import nn

from deepclust_accel.data import ArraySource, Loader
from deepclust_accel.engine.monitor import Watcher
from deepclust_accel.engine.stage import Every, Group, Pass, Train, Update

ROWS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))


def loader(seed=0):
    return Loader(ArraySource(ROWS), seed=seed)


class Autoencoder(nn.Module):
    """Dropout, noise from run.generator, a pass, targets and Adam: everything whose state could get lost on resume."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.decoder = nn.Linear(2, 4)
        self.register_buffer("target", torch.zeros(2))
        self.events = []

    def parts(self):
        return {"encoder": self.encoder, "decoder": self.decoder}

    def plan(self):
        group = {"main": Group(("encoder", "decoder"), 1e-2, decay=lambda epoch: 0.9**epoch)}
        return [
            Train("pretrain", self.step, group, 3, batch_size=16),
            Pass("center", self.center),
            Train("joint", self.step, group, 4, batch_size=16, before_epoch=self.center, every=Every(2, self.mark)),
        ]

    def center(self, run):
        self.events.append(("center", run.epoch, self.training, torch.is_grad_enabled()))
        noise = torch.randn(2, generator=run.shared_generator)
        self.target.copy_(torch.cat([self.encoder(b.x) for b in run.batches()]).mean(0) + 0.1 * noise)

    def mark(self, run):
        self.events.append(("every", run.step))

    def step(self, nets, batch, run):
        assert self.training
        noise = torch.randn(batch.x.shape, generator=run.generator)
        z = nets.encoder(batch.x + 0.1 * noise)
        run.log(spread=z.std())
        return (nets.decoder(z) - batch.x).square().mean() + 0.1 * (z - self.target).square().mean()


class Adversary(nn.Module):
    """Two optimizers driven by a generator step."""

    def __init__(self):
        super().__init__()
        self.player, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)
        self.seen = []

    def parts(self):
        return {"player": self.player, "critic": self.critic}

    def plan(self):
        groups = {"critic": Group(("critic",), 0.1, "sgd"), "player": Group(("player",), 0.1, "sgd")}
        return [Train("duel", self.step, groups, 1, batch_size=50)]

    def step(self, nets, batch, run):
        self.seen.append((self.critic.weight.clone(), self.player.weight.clone()))
        yield Update(nets.critic(nets.player(batch.x)).mean(), "critic")
        self.seen.append((self.critic.weight.clone(), self.player.weight.clone()))
        yield Update(-nets.critic(nets.player(batch.x)).mean(), "player", {"extra": 2.0})
        self.seen.append((self.critic.weight.clone(), self.player.weight.clone()))


class StopAfter(Watcher):
    """A watcher that interrupts after a number of epochs."""

    def __init__(self, epochs):
        self.left = epochs

    def end_epoch(self, record):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
