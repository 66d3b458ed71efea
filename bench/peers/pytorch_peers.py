#!/usr/bin/env python3
"""Speeds of PyTorch for the shapes that MUSE is measured at, on the GPU of this machine.

Every line is a JSON object: name, milliseconds (median), and where it says something, tera-operations a second (2 M N K
of the products alone) or gigabytes a second. Random data; nothing of PyTorch's settings is changed except that bf16 and
int8 are used as its users would.

    python3 bench/peers/pytorch_peers.py [copy bitlinear layer attention adamw scan]
"""
import argparse
import json

import torch
import torch.nn.functional as F
from triton.testing import do_bench

DEVICE = 'cuda'
BF16 = torch.bfloat16


def report(name, ms, ops=None, moved=None):
    line = {'name': name, 'ms': round(ms, 4)}
    if ops:
        line['tops'] = round(ops / ms * 1e-9, 1)
    if moved:
        line['gb_per_second'] = round(moved / ms * 1e-6, 1)
    print(json.dumps(line), flush=True)


def time_of(call, warmup=50, repeat=300):
    return do_bench(call, warmup=warmup, rep=repeat, return_mode='median')


def copy():
    """The ceiling of everything that only moves bytes."""
    a = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    report('copy of 1 GiB', time_of(lambda: b.copy_(a)), moved=2 * a.numel())


# ---- BitLinear ----

def ternary(w):
    scale = w.float().abs().mean().clamp(min=1e-6)
    return (w.float() / scale).round().clamp(-1, 1).to(torch.int8), scale


def quantise(x):
    a = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return (x.float() * (127 / a)).round().clamp(-128, 127).to(torch.int8), a


def rms_norm(x, weight):
    y = x.float()
    return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def bitlinear_forward(x, norm, trits_t, scale):
    """rms norm, quantise, int8 product, scale: bf16 to bf16. trits_t is [in, out], column-major as cuBLASLt wants it."""
    q, a = quantise(rms_norm(x, norm))
    return (torch._int_mm(q, trits_t).float() * (a * (scale / 127))).to(BF16)


class BitLinear(torch.autograd.Function):
    """int8 forward, bf16 gradients straight through; that of the trits goes to the latent matrix."""

    @staticmethod
    def forward(ctx, x, norm, latent, trits, scale):
        h = rms_norm(x, norm)
        q, a = quantise(h)
        ctx.save_for_backward(x, norm, trits, scale, q, a)
        return (torch._int_mm(q, trits.t()).float() * (a * (scale / 127))).to(BF16)

    @staticmethod
    def backward(ctx, dy):
        x, norm, trits, scale, q, a = ctx.saved_tensors
        dh = (dy @ trits.to(BF16)) * scale.to(BF16)
        dw = dy.t() @ (q.to(BF16) * (a / 127).to(BF16))
        xf = x.float()
        r = torch.rsqrt(xf.pow(2).mean(-1, keepdim=True) + 1e-6)
        g = dh.float() * norm
        dx = r * g - xf * (r ** 3) * (g * xf).mean(-1, keepdim=True)
        return dx.to(BF16), (dh.float() * xf * r).sum(0), dw, None, None


def bitlinear():
    M, K, N = 4096, 5120, 20480
    ops = 2 * M * N * K
    x = torch.randn(M, K, device=DEVICE, dtype=BF16)
    w = torch.randn(N, K, device=DEVICE, dtype=BF16) * 0.02
    norm = torch.rand(K, device=DEVICE) + 0.5
    trits, scale = ternary(w)
    q, _ = quantise(x)
    report('bf16 product (cuBLAS) 4096 x 5120 -> 20480', time_of(lambda: F.linear(x, w)), ops)
    report('int8 product alone (cuBLASLt) 4096 x 5120 -> 20480', time_of(lambda: torch._int_mm(q, trits.t())), ops)
    report('BitLinear forward, eager', time_of(lambda: bitlinear_forward(x, norm, trits.t(), scale)), ops)
    compiled = torch.compile(bitlinear_forward)
    report('BitLinear forward, torch.compile', time_of(lambda: compiled(x, norm, trits.t(), scale)), ops)
    dy = torch.randn(M, N, device=DEVICE, dtype=BF16) * 0.01
    x.requires_grad_()
    norm.requires_grad_()
    latent = w.clone()

    latent.requires_grad_()

    def forward(x, norm, latent, trits, scale):
        return BitLinear.apply(x, norm, latent, trits, scale)

    for how, f in (('eager', forward), ('torch.compile', torch.compile(forward))):
        report(f'BitLinear forward + backward, bf16 gradients, {how}',
               time_of(lambda: torch.autograd.grad(f(x, norm, latent, trits, scale), [x, norm, latent], dy)), 3 * ops)


# ---- one layer of phase8_10b with softmax attention ----

class Linear(torch.nn.Module):
    """A BitLinear of PyTorch: fake quantisation, straight through, products in bf16."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(n_out, n_in, device=DEVICE) * 0.02)

    def forward(self, x):
        w = self.weight
        gamma = w.abs().mean().clamp(min=1e-6)
        t = (w / gamma).round().clamp(-1, 1) * gamma
        a = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-5)
        q = (x.float() * (127 / a)).round().clamp(-128, 127) * (a / 127)
        w = w + (t - w).detach()
        x = x + (q - x).detach()
        return F.linear(x.to(BF16), w.to(BF16))


class Layer(torch.nn.Module):
    def __init__(self, linear, d_model=5120, heads=40):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (linear(d_model, d_model) for _ in range(4))
        self.up, self.down = linear(d_model, 4 * d_model), linear(4 * d_model, d_model)
        self.norms = torch.nn.ParameterList(
            [torch.ones(n, device=DEVICE) for n in (d_model, d_model, d_model, 4 * d_model)])

    def forward(self, x):
        B, T, D = x.shape
        h = rms_norm(x, self.norms[0])
        q, k, v = (f(h).view(B, T, self.heads, D // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        mix = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, D)
        x = x + self.o(rms_norm(mix, self.norms[1]))
        act = torch.relu(self.up(rms_norm(x, self.norms[2]))).square()
        return x + self.down(rms_norm(act, self.norms[3]))


class Dense(torch.nn.Linear):
    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False, device=DEVICE, dtype=BF16)

    def forward(self, x):
        return super().forward(x.to(BF16))


def layer():
    ops = 3 * 2 * 4096 * 12 * 5120 * 5120
    for name, kind in (('BitLinear', Linear), ('dense bf16', Dense)):
        torch.manual_seed(0)
        module = Layer(kind)
        x = torch.randn(8, 512, 5120, device=DEVICE, requires_grad=True)
        dy = torch.randn(8, 512, 5120, device=DEVICE) * 0.01

        def step(m):
            return torch.autograd.grad(m(x), [x, *m.parameters()], dy)

        report(f'layer 5120, softmax, {name}, forward + backward, eager', time_of(lambda: step(module)), ops)
        compiled = torch.compile(module)
        report(f'layer 5120, softmax, {name}, forward + backward, torch.compile', time_of(lambda: step(compiled)), ops)
        del module, compiled
        torch.cuda.empty_cache()


def attention():
    """Causal softmax attention, 40 heads of 128: what the mixer stands in for."""
    for T in (4096, 65536):
        q, k, v = (torch.randn(1, 40, T, 128, device=DEVICE, dtype=BF16, requires_grad=True) for _ in range(3))
        do = torch.randn_like(q)
        call = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)  # noqa: E731
        repeat = 300 if T < 10000 else 1000
        with torch.no_grad():
            report(f'SDPA forward, T = {T}', time_of(call, repeat=repeat))
        report(f'SDPA forward + backward, T = {T}',
               time_of(lambda: torch.autograd.grad(call(), [q, k, v], do), repeat=repeat))
    try:
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError:
        print(json.dumps({'name': 'fla chunk_simple_gla', 'error': 'fla is not installed'}))
        return
    for T in (4096, 65536):
        q, k, v = (torch.randn(1, T, 40, 128, device=DEVICE, dtype=BF16) for _ in range(3))
        g = F.logsigmoid(torch.randn(1, T, 40, device=DEVICE))
        report(f'fla chunk_simple_gla forward, T = {T}', time_of(lambda: chunk_simple_gla(q, k, v, g)))


def adamw():
    p = [torch.randn(20480, 5120, device=DEVICE) for _ in range(4)]
    for t in p:
        t.grad = torch.randn_like(t)
    optimizer = torch.optim.AdamW(p, lr=1e-4, fused=True)
    ms = time_of(optimizer.step)
    report('AdamW (fused), 419 M parameters', ms, moved=7 * 4 * sum(t.numel() for t in p))


def scan():
    """The Green's function as a loop over tokens, and as PyTorch's own compiler would run it."""
    B, H, T = 8, 40, 2048
    m = -(2 + F.softplus(torch.randn(B, H, T, device=DEVICE))) - 0.01j

    def loop(m):
        g, out = torch.zeros(B, H, dtype=torch.complex64, device=DEVICE), []
        for t in range(T):
            g = 1 / (m[:, :, t] - g)
            out.append(g)
        return torch.stack(out, -1)

    report('green scan 8 x 40 x 2048, PyTorch loop', time_of(lambda: loop(m), warmup=1, repeat=3))


PARTS = {'copy': copy, 'bitlinear': bitlinear, 'layer': layer, 'attention': attention, 'adamw': adamw, 'scan': scan}

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join(PARTS))
    names = parser.parse_args().parts or list(PARTS)
    print(json.dumps({'name': 'machine', 'gpu': torch.cuda.get_device_name(), 'torch': torch.__version__}))
    for name in names:
        PARTS[name]()
