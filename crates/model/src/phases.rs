//! The memory that one phase of a pass uses after the other: what a layer works in on the way forward, the output layer's
//! logits, what a layer works in on the way back. Nothing in it outlives its layer, or its phase.

use crate::Config;

/// Where one layer works on the way forward. What a layer keeps in buffers of its own is empty here.
pub(crate) struct Forward<'a> {
    pub working: Working<'a>,
    /// `[T, F]`: SwiGLU's output.
    pub hidden: &'a mut [f32],
}

/// Where one layer works on the way back.
pub(crate) struct Backward<'a> {
    pub working: Working<'a>,
    /// `[T, F]`: the gradient of SwiGLU's output, and that output again.
    pub hidden: &'a mut [f32],
    /// `[T, H C]`.
    pub dattention: &'a mut [f32],
    /// `[T, (H + 2K) C]`.
    pub dqkv: &'a mut [f32],
}

/// Activations of layers that do not keep them as they are.
pub(crate) struct Working<'a> {
    pub qkv: &'a mut [f32],
    pub attention: &'a mut [f32],
    pub gate_up: &'a mut [f32],
}

/// The sizes of what is lent.
#[derive(Clone, Copy)]
pub(crate) struct Phases {
    qkv: usize,
    attention: usize,
    gate_up: usize,
    /// Gate and up on the way back.
    gate_up_again: usize,
    hidden: usize,
    dattention: usize,
    dqkv: usize,
}

impl Phases {
    /// For `tokens` tokens. `attention` and `gate_up`: whether a layer works on these without keeping them; `again`: whether
    /// one computes gate and up again; `backward`: whether there is one.
    pub fn new(
        config: &Config,
        tokens: usize,
        attention: bool,
        gate_up: bool,
        again: bool,
        backward: bool,
    ) -> Self {
        let size = |there: bool, width: usize| if there { tokens * width } else { 0 };
        Self {
            qkv: size(attention, config.qkv_dim()),
            attention: size(attention, config.attention_dim()),
            gate_up: size(gate_up, 2 * config.ffn_dim),
            gate_up_again: size(again, 2 * config.ffn_dim),
            hidden: tokens * config.ffn_dim,
            dattention: size(backward, config.attention_dim()),
            dqkv: size(backward, config.qkv_dim()),
        }
    }

    /// Values that any phase of a layer needs.
    pub fn len(&self) -> usize {
        let sum = |sizes: &[usize]| sizes.iter().map(|&size| whole_lines(size)).sum::<usize>();
        sum(&self.forward_sizes()).max(sum(&self.backward_sizes()))
    }

    pub fn forward<'a>(&self, memory: &'a mut [f32]) -> Forward<'a> {
        let [qkv, attention, gate_up, hidden] = pieces(memory, self.forward_sizes());
        Forward { working: Working { qkv, attention, gate_up }, hidden }
    }

    pub fn backward<'a>(&self, memory: &'a mut [f32]) -> Backward<'a> {
        let [qkv, attention, gate_up, hidden, dattention, dqkv] = pieces(memory, self.backward_sizes());
        Backward { working: Working { qkv, attention, gate_up }, hidden, dattention, dqkv }
    }

    fn forward_sizes(&self) -> [usize; 4] {
        [self.qkv, self.attention, self.gate_up, self.hidden]
    }

    fn backward_sizes(&self) -> [usize; 6] {
        [self.qkv, self.attention, self.gate_up_again, self.hidden, self.dattention, self.dqkv]
    }
}

/// Pieces one after the other, each from the beginning of a cache line on.
fn pieces<const N: usize>(mut memory: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (piece, rest) = std::mem::take(&mut memory).split_at_mut(whole_lines(size));
        memory = rest;
        &mut piece[..size]
    })
}

fn whole_lines(values: usize) -> usize {
    values.next_multiple_of(16)
}
