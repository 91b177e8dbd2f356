//! What a pass multiplies by, wherever it is kept: the weights of a whole model, or of one stage of a pipeline. A frozen
//! model with adapters is in [`crate::adapters`].

use kernels::buffer::Buffer;
use kernels::cross_entropy::LmHead;
use kernels::embedding;

use crate::forward::BlockWeights;
use crate::weights::{Ends, Layout};
use crate::{Config, Weights};

/// A model, or a share of one, as [`crate::forward`] and [`crate::backward`] read it.
pub trait Parameters: Sync {
    /// The shape; in a share of a model the number of layers, heads and the feed-forward's width are the share's own.
    fn config(&self) -> &Config;

    /// Where the gradient of each trained part lies in the flat vector of gradients. What is not trained is empty.
    fn layout(&self) -> Layout;

    /// Writes the embedding of `tokens [T]` to `x [T, D]`. `layout` is this share's own, here and below.
    fn embed(&self, layout: &Layout, x: &mut [f32], tokens: &[u32]);

    /// A block's weights, by its index within this share.
    fn block(&self, layout: &Layout, index: usize) -> BlockWeights<'_>;

    /// The final norm's gain, `[D]`.
    fn final_norm(&self, layout: &Layout) -> &[f32];

    /// The output layer, `[V, D]`.
    fn lm_head(&self, layout: &Layout) -> LmHead<'_>;
}

impl Parameters for Weights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.config)
    }

    fn embed(&self, layout: &Layout, x: &mut [f32], tokens: &[u32]) {
        embedding::forward(x, &self.data[layout.embedding.clone()], tokens, self.config.dim);
    }

    fn block(&self, layout: &Layout, index: usize) -> BlockWeights<'_> {
        BlockWeights::plain(&self.data, &layout.layers.get(index))
    }

    fn final_norm(&self, layout: &Layout) -> &[f32] {
        &self.data[layout.final_norm.clone()]
    }

    fn lm_head(&self, layout: &Layout) -> LmHead<'_> {
        LmHead::Plain(&self.data[layout.lm_head.clone()])
    }
}

/// A whole model whose embedding is not in the layout: its gradient is not among the flat ones. Who calls the backward adds
/// [`Workspace::stream_gradient`](crate::Workspace::stream_gradient) to the rows of the batch's tokens.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingApart<'a>(&'a Weights);

impl<'a> EmbeddingApart<'a> {
    /// # Panics
    /// When the embedding is tied to the output layer, whose gradient it shares.
    pub fn new(weights: &'a Weights) -> Self {
        assert!(!weights.config.tied_embeddings, "a tied embedding has the output layer's gradient too");
        Self(weights)
    }

    fn table(&self) -> usize {
        Layout::new(&self.0.config).embedding.len()
    }

    fn rest(&self) -> &'a [f32] {
        &self.0.data[self.table()..]
    }
}

impl Parameters for EmbeddingApart<'_> {
    fn config(&self) -> &Config {
        &self.0.config
    }

    fn layout(&self) -> Layout {
        Layout::of_stage(&self.0.config, Ends { first: false, last: true })
    }

    fn embed(&self, _layout: &Layout, x: &mut [f32], tokens: &[u32]) {
        embedding::forward(x, &self.0.data[..self.table()], tokens, self.0.config.dim);
    }

    fn block(&self, layout: &Layout, index: usize) -> BlockWeights<'_> {
        BlockWeights::plain(self.rest(), &layout.layers.get(index))
    }

    fn final_norm(&self, layout: &Layout) -> &[f32] {
        &self.rest()[layout.final_norm.clone()]
    }

    fn lm_head(&self, layout: &Layout) -> LmHead<'_> {
        LmHead::Plain(&self.rest()[layout.lm_head.clone()])
    }
}

/// Neighbouring layers of a model, as one rank of a pipeline holds them, with the embedding or the output layer where
/// they are at that end. A tied embedding is held by both ends, whose gradients belong together.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The model's shape with this stage's number of layers.
    pub config: Config,
    /// Which ends of the model are here.
    pub ends: Ends,
    /// The parameters, in the order of [`Layout::of_stage`].
    pub data: Buffer,
}

impl Stage {
    /// The stage of a model that holds these of its layers.
    ///
    /// # Panics
    /// When the model has no such layers.
    pub fn cut(weights: &Weights, layers: std::ops::Range<usize>) -> Self {
        let whole = Layout::new(&weights.config);
        let ends = Ends { first: layers.start == 0, last: layers.end == weights.config.layers };
        let config = Config { layers: layers.len(), ..weights.config.clone() };
        let mut data = Vec::with_capacity(Layout::of_stage(&config, ends).len);
        let mut take = |range: std::ops::Range<usize>| data.extend_from_slice(&weights.data[range]);
        if ends.first {
            take(whole.embedding);
        }
        take(whole.layers.get(layers.start).attention_norm.start..whole.layers.get(layers.end - 1).down.end);
        if ends.last {
            take(whole.final_norm);
            if !(config.tied_embeddings && ends.first) {
                take(whole.lm_head);
            }
        }
        Self { config, ends, data: data.into() }
    }
}

impl Parameters for Stage {
    fn config(&self) -> &Config {
        &self.config
    }

    fn layout(&self) -> Layout {
        Layout::of_stage(&self.config, self.ends)
    }

    fn embed(&self, layout: &Layout, x: &mut [f32], tokens: &[u32]) {
        embedding::forward(x, &self.data[layout.embedding.clone()], tokens, self.config.dim);
    }

    fn block(&self, layout: &Layout, index: usize) -> BlockWeights<'_> {
        BlockWeights::plain(&self.data, &layout.layers.get(index))
    }

    fn final_norm(&self, layout: &Layout) -> &[f32] {
        &self.data[layout.final_norm.clone()]
    }

    fn lm_head(&self, layout: &Layout) -> LmHead<'_> {
        LmHead::Plain(&self.data[layout.lm_head.clone()])
    }
}
