"""dcfae, dahal and aae: every loss by hand, who learns from which, both players moving at once, ablations, any image size."""

import math

import numpy as np
import pytest
import torch
from standstill import Window, build, one_step, some_rows, stage, updates

from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods.aae import Aae
from deepclust_accel.methods.dahal import Dahal
from deepclust_accel.methods.dcfae import Dcfae

FUSION = {
    "latent_dim": 3,
    "embed_dim": 2,
    "channels": (4, 5),
    "discriminator_channels": (3,),
    "embedding_hidden": (7,),
}
SMALL = {"hidden": (9,), "latent_dim": 3, "embedding_hidden": (8,), "embed_dim": 2}


def t_cross_entropy(z, e, a, b, rows, diagonal):
    """By a double loop, in float64."""
    n = len(z)

    def similarity(u, dof):
        return np.array(
            [
                [
                    (1 + float((u[i] - u[j]).square().sum()) / dof) ** (-(dof + 1) / 2) if diagonal or i != j else 0.0
                    for j in range(n)
                ]
                for i in range(n)
            ]
        )

    p, q = similarity(z.detach().double(), a), similarity(e.detach().double(), b)
    p, q = (v / (v.sum(1, keepdims=True) if rows else v.sum()) for v in (p, q))
    return -sum(p[i, j] * math.log(q[i, j]) for i in range(n) for j in range(n) if p[i, j] > 0)


def cross_entropy(logits, wanted):
    """Mean binary cross-entropy in float64; targets may be above 1."""
    logits, wanted = logits.detach().double(), torch.as_tensor(wanted).double().expand(logits.shape)
    return float((wanted * torch.log1p((-logits).exp()) + (1 - wanted) * torch.log1p(logits.exp())).mean())


@pytest.mark.parametrize(("second", "pixels"), [(False, None), (True, 80)])
@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(("normalization", "diagonal"), [("global", True), ("rows", False), ("rows", True)])
def test_every_loss_of_dcfae_by_hand(second, pixels, decoder, normalization, diagonal):
    x = some_rows(rows=6, shape=(5, 4, 3))
    method = build(
        Dcfae, shape=(5, 4, 3), rows=6, **FUSION, decoder=decoder, normalization=normalization, augment=False,
        gan_weight=7.0, similarity_weight=3.0, embedding_l2=0.1, pixels=pixels, include_diagonal=diagonal,
    )  # fmt: skip
    (first, critic), terms = updates(method, stage(method, "joint" if second else "pretrain").step, x)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        images = x.permute(0, 3, 1, 2)
        m, s = method.encoder(images)
        output = method.decoder(m + torch.exp(s / 2) * torch.randn(m.shape, generator=generator))
        restored = torch.sigmoid(output)
        noise = 0.05 * torch.rand(2, 6, 1, generator=generator)
        fake, real = method.discriminator(restored)[0], method.discriminator(images)[0]
        r, v = restored.double(), images.double()
        error = -(v * r.log() + (1 - v) * (1 - r).log()) if decoder == "bernoulli" else (v - r) ** 2
        wanted = {
            "reconstruction": float(error.sum()) / 6 / 3 * (4 if pixels else 1),
            "kl": -0.5 * float((1 + s - m**2 - s.exp()).double().sum()) / 6,
            "gan": cross_entropy(fake, 1.0),
        }
        if second:
            embedded = method.embedding(m)
            rows = normalization == "rows"
            wanted["similarity"] = t_cross_entropy(m, embedded, 6.0, 1.0, rows, diagonal) / (6 if rows else 1)
    assert terms == pytest.approx(wanted, rel=1e-4)
    loss = wanted["reconstruction"] + wanted["kl"] + 7 * wanted["gan"]
    if second:
        decay = sum(float(layer.weight.detach().square().sum()) for layer in method.embedding.layers)
        loss += 3 * wanted["similarity"] + 0.1 * decay
    assert (first.group, critic.group) == ("main", "discriminator")
    assert first.loss.item() == pytest.approx(loss, rel=1e-4)
    told_apart = (cross_entropy(fake, noise[0]) + cross_entropy(real, 1 + noise[1])) / 2
    assert critic.loss.item() == pytest.approx(told_apart, rel=1e-4)


def test_both_players_move_from_the_same_weights():
    """The second update is of what the first networks made, though they have moved since."""
    x = some_rows(rows=6, shape=(4, 4))
    losses = []
    for move in (False, True):
        method = build(Dcfae, shape=(4, 4), rows=6, **FUSION)
        run = Window(x)
        nets, batch = type("Nets", (), method.parts()), type("Batch", (), {"x": x})
        step = stage(method, "pretrain").step(nets, batch, run)
        first = next(step)
        first.loss.backward()
        if move:
            with torch.no_grad():
                for parameter in (*method.encoder.parameters(), *method.decoder.parameters()):
                    parameter.sub_(parameter.grad)
        critic = next(step)
        method.zero_grad()
        critic.loss.backward()
        assert all(p.grad is None or not p.grad.any() for p in method.decoder.parameters())
        losses.append(critic.loss.item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (1, 9), (6, 10, 3), (3, 6, 11), (17,), (1,)])
def test_any_size_goes_in_and_comes_out(shape):
    x = some_rows(rows=4, shape=shape)
    method = build(Dcfae, shape=shape, rows=4, **FUSION)
    images = method._images(x)
    assert method.decoder(method.encoder(images)[0]).shape == images.shape
    assert method.embed(x).shape == (4, 2)
    assert images.dim() == (2 if len(shape) == 1 else 4)


def test_the_papers_networks_have_their_number_of_parameters():
    method = build(Dcfae, shape=(32, 32))
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in method.parts().items()}
    # as in the author's code for one channel: 8 023 524, 10 282 369, 5 134 401, 1 441 842
    assert count == {"encoder": 8023524, "decoder": 10282369, "discriminator": 5134401, "embedding": 1441842}


def test_ablations_leave_their_part_out():
    x = some_rows(rows=6, shape=(4, 4))
    whole = build(Dcfae, shape=(4, 4), rows=6, **FUSION)
    alone = build(Dcfae, shape=(4, 4), rows=6, **FUSION, gan_weight=0.0)
    assert "discriminator" not in alone.parts() and len(updates(alone, stage(alone, "joint").step, x)[0]) == 1
    plain = build(Dcfae, shape=(4, 4), rows=6, **FUSION, similarity_weight=0.0)
    assert "embedding" not in plain.parts() and plain.embed(x).shape == (6, 3)
    assert torch.equal(plain.embed(x), plain.encoder(plain._images(x))[0])
    smooth = build(Dcfae, shape=(4, 4), rows=6, **FUSION, residual_blocks=False)
    kinds = {type(m).__name__ for m in smooth.modules()}
    assert "ResidualBlock" not in kinds and "ResidualBlock" in {type(m).__name__ for m in whole.modules()}


@pytest.mark.parametrize(
    ("rows", "settings", "batch"),
    [(70000, {}, 256), (8192, {}, 256), (1797, {}, 56), (40, {}, 16), (1797, {"least_steps": 1}, 256),
     (1797, {"batch_size": 30}, 30), (100, {"batch_size": 8}, 8), (None, {}, 256)],
)  # fmt: skip
def test_few_rows_come_in_smaller_batches_and_the_same_on_several_processes(rows, settings, batch):
    for train in build(Dcfae, shape=(4, 4), rows=rows, **FUSION, **settings).plan()[:2]:
        assert train.batch_rows(rows) == batch
    halves = {**settings, "batch_size": settings.get("batch_size", 256) // 2}
    for train in build(Dcfae, shape=(4, 4), rows=rows, **FUSION, **halves).plan()[:2]:
        assert 2 * train.batch_rows(rows, world_size=2) == batch


def test_augmentation_is_for_the_second_stage_only():
    x = some_rows(rows=6, shape=(6, 6))
    for augment in (True, False):
        method = build(Dcfae, shape=(6, 6), rows=6, **FUSION, augment=augment, shift=0.3)
        seen = []
        method.encoder.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(inputs[0]))
        for name in ("pretrain", "joint"):
            updates(method, stage(method, name).step, x)
        assert torch.equal(seen[0][:, 0], x) and torch.equal(seen[1][:, 0], x) != augment


@pytest.mark.parametrize("name", ["channels", "discriminator_channels"])
def test_networks_without_layers_are_refused(name):
    with pytest.raises(ArgumentError, match=f"^{name}: expected at least one halving"):
        build(Dcfae, **FUSION | {name: ()})


def test_images_have_to_be_known_as_such():
    with pytest.raises(ArgumentError, match="image_shape: expected that of a row of 12 values"):
        build(Dcfae, networks="images", **FUSION)
    with pytest.raises(ArgumentError, match="image_shape: expected H,W or H,W,C or C,H,W of 12 values"):
        build(Dcfae, image_shape=(5, 3), **FUSION)
    assert build(Dcfae, image_shape=(3, 4), **FUSION)._layout.height == 3
    assert build(Dcfae, networks="vectors", shape=(4, 4), **FUSION)._layout is None


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_in_dahal_the_encoder_gets_its_share_of_the_similarity_loss(weight):
    x = some_rows(rows=8)
    method = build(Dahal, rows=8, **SMALL, similarity_weight=weight)
    with torch.no_grad():  # the identity drops what is negative; any network does here
        for layer in method.embedding.layers:
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(4)))
    loss, terms = one_step(method, method._joint, x)
    z = method.encoder(x)
    wanted = t_cross_entropy(z, method.embedding(z), 6.0, 1.0, rows=True, diagonal=False) / 8
    assert terms["similarity"] == pytest.approx(wanted, rel=1e-4)
    assert loss.item() == pytest.approx(terms["reconstruction"] + wanted, rel=1e-4)

    loss.backward()
    got = {name: [p.grad.clone() for p in part.parameters()] for name, part in method.parts().items()}
    method.zero_grad()
    reconstruction = method._negative_log_likelihood(method.decoder(method.encoder(x)), x)
    from deepclust_accel import ops

    with ops.backend("reference"):
        z = method.encoder(x)
        similarity = (
            ops.t_similarity(z, method.embedding(z), dof_z=6.0, normalization="rows", include_diagonal=False) / 8
        )

    def gradients(value, part):
        return torch.autograd.grad(value, list(part.parameters()), retain_graph=True)

    for mine, rec, sim in zip(
        got["encoder"], gradients(reconstruction, method.encoder), gradients(similarity, method.encoder), strict=True
    ):
        assert torch.allclose(mine, rec + weight * sim, atol=2e-4)
    assert all(
        torch.allclose(a, b, atol=1e-4)
        for a, b in zip(got["decoder"], gradients(reconstruction, method.decoder), strict=True)
    )
    assert all(
        torch.allclose(a, b, atol=1e-4)
        for a, b in zip(got["embedding"], gradients(similarity, method.embedding), strict=True)
    )


def test_the_embedding_of_dahal_starts_as_the_identity_of_what_is_positive():
    method = build(Dahal, hidden=(9,), latent_dim=3, embed_dim=3, embedding_hidden=(8, 6))
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(method.embedding(z), z.relu())


def test_the_three_updates_of_aae_by_hand():
    x = some_rows(rows=6)
    method = build(Aae, rows=6, hidden=(5,), latent_dim=2, adversarial_weight=0.5)
    found, terms = updates(method, method._step, x)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        code = method.encoder(x)
        y, z = code[:, :3].softmax(1), code[:, 3:]
        restored = torch.sigmoid(method.decoder(torch.cat([y, z], 1))).double()
        drawn = torch.randint(3, (6,), generator=generator)
        priors = torch.eye(3)[drawn], torch.randn(6, 2, generator=generator)
        d_y, d_z = method.category_discriminator, method.style_discriminator
        wanted = {
            "reconstruction": float(((restored - x) ** 2).sum()) / 72,
            "category_discrimination": cross_entropy(d_y(priors[0]), 1.0) + cross_entropy(d_y(y), 0.0),
            "style_discrimination": cross_entropy(d_z(priors[1]), 1.0) + cross_entropy(d_z(z), 0.0),
            "category_fooling": cross_entropy(d_y(y), 1.0),
            "style_fooling": cross_entropy(d_z(z), 1.0),
        }
    assert terms == pytest.approx(wanted, rel=1e-4)
    assert [u.group for u in found] == ["main", "discriminators", "main"]
    losses = [u.loss.item() for u in found]
    discrimination = wanted["category_discrimination"] + wanted["style_discrimination"]
    fooling = 0.5 * (wanted["category_fooling"] + wanted["style_fooling"])
    assert losses == pytest.approx([wanted["reconstruction"], discrimination, fooling], rel=1e-4)
