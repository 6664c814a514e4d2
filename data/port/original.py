"""The code that a model is ported from: names of its own, queries and keys rotated in pairs that lie side by side."""

import torch
from torch import nn

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
WIDTH, HEADS, HIDDEN, LAYERS, WORDS = 32, 4, 64, 2, 50


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.weight


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.wq, self.wk, self.wv))
        mixed = nn.functional.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        return self.wo(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w2, self.w3 = (
            nn.Linear(HIDDEN, WIDTH, bias=False) if n == 1 else nn.Linear(WIDTH, HIDDEN, bias=False) for n in range(3)
        )

    def forward(self, x):
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.feed_forward = Attention(), FeedForward()
        self.attention_norm, self.ffn_norm = Norm(), Norm()

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Original(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok_embeddings = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        self.output = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens):
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


def rotated(x):
    size = x.shape[-1]
    angles = torch.arange(x.shape[-2])[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).type_as(x)


def build():
    torch.manual_seed(0)
    return Original()


def call(module):
    """The logits of either side."""
    result = module(TOKENS)
    return getattr(result, "logits", result)
