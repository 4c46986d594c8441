"""The autoencoder keeps slices apart and its codebook does what it says."""

import pytest
import torch

from spinepaint.models.autoencoder import AutoencoderConfig, Codebook, SliceAutoencoder

SMALL = AutoencoderConfig(channels=16, encoder_blocks=1, decoder_blocks=1, codes=32)


@pytest.fixture(scope="module")
def autoencoder() -> SliceAutoencoder:
    torch.manual_seed(0)
    model = SliceAutoencoder(SMALL)
    model.codebook.vectors.copy_(torch.randn(32, 3))
    return model.eval()


@pytest.mark.parametrize("grid", [(64, 64, 5), (128, 64, 3)])
def test_in_plane_by_four_and_slices_kept(autoencoder: SliceAutoencoder, grid: tuple[int, int, int]) -> None:
    latent = autoencoder.encode(torch.zeros(2, 1, *grid))
    assert latent.shape == (2, 3, grid[0] // 4, grid[1] // 4, grid[2])
    assert autoencoder.decode(latent).shape == (2, 1, *grid)


def test_a_slice_does_not_see_its_neighbours(autoencoder: SliceAutoencoder) -> None:
    volume = torch.randn(1, 1, 32, 32, 4, generator=torch.Generator().manual_seed(0))
    altered = volume.clone()
    altered[..., 2] += 1.0
    before, after = (autoencoder.decode(autoencoder.encode(v)) for v in (volume, altered))
    assert torch.allclose(before[..., [0, 1, 3]], after[..., [0, 1, 3]], atol=1e-5)
    assert not torch.allclose(before[..., 2], after[..., 2], atol=1e-2)


def test_nearest_code_is_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    book = Codebook(100, 3)
    book.vectors.copy_(torch.randn(100, 3, generator=generator))
    points = torch.randn(500, 3, generator=generator)
    assert torch.equal(book.nearest(points), torch.cdist(points, book.vectors).argmin(1))


def test_decoding_quantises(autoencoder: SliceAutoencoder) -> None:
    latent = torch.randn(1, 3, 8, 8, 2, generator=torch.Generator().manual_seed(1))
    codes = autoencoder.codebook.vectors
    flat = latent.movedim(1, -1).reshape(-1, 3)
    snapped = codes[torch.cdist(flat, codes).argmin(1)].reshape(1, 8, 8, 2, 3).movedim(-1, 1)
    assert torch.allclose(autoencoder.decode(latent), autoencoder.decode(snapped), atol=1e-5)


def test_gradient_passes_straight_through() -> None:
    book = Codebook(8, 3)
    book.vectors.copy_(torch.randn(8, 3))
    latents = torch.randn(1, 3, 4, 4, requires_grad=True)
    book(latents).sum().backward()
    assert latents.grad is not None
    assert torch.equal(latents.grad, torch.ones_like(latents))


def test_codebook_settles_on_the_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, -3.0]])
    book = Codebook(8, 3)
    for _ in range(200):
        flat = centres[torch.randint(4, (256,), generator=generator)] + 0.05 * torch.randn(256, 3, generator=generator)
        book.update(flat.T[None, :, :, None], generator)
    assert float(torch.cdist(centres, book.vectors).min(1).values.max()) < 0.15


def test_a_finer_level_quantises_what_the_coarse_one_leaves() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 3, 16, 16, generator=generator)
    errors = []
    for levels in (1, 2, 3):
        book = Codebook(64, 3, levels)
        for _ in range(60):
            used = book.update(latents, torch.Generator().manual_seed(1))
        errors.append(float((book(latents) - latents).square().mean()))
        assert 0.5 < used <= 1
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4
