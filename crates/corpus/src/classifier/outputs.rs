//! From the products of a text's vector with the rows of the linear layer to probabilities of labels, for each of fastText's
//! losses (`src/loss.cc` of facebookresearch/fastText).

/// What the rows of the linear layer mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outputs {
    /// One row a label; the probabilities sum to 1.
    Softmax,
    /// One row a label, each a question of its own (`ova`, and `ns`).
    Independent,
    /// One row a node of a Huffman tree over the labels, the last row unused.
    Hierarchical(Vec<Node>),
}

/// An inner node: its two branches, each a label (below the number of labels) or a node (from there on).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    left: u32,
    right: u32,
}

impl Outputs {
    /// The tree that fastText builds from the labels' counts, which are sorted, the greatest first.
    pub fn hierarchical(counts: &[u64]) -> Outputs {
        let labels = counts.len();
        // fastText's stand-in for infinity: an inner node that is not made yet.
        let mut all: Vec<u64> = counts.to_vec();
        all.resize((2 * labels).saturating_sub(1), 1_000_000_000_000_000);
        let (mut leaf, mut node) = (labels, labels);
        let mut nodes: Vec<Node> = Vec::with_capacity(labels.saturating_sub(1));
        for made in labels..all.len() {
            let mut smallest = || {
                if leaf > 0 && (node >= made || all[leaf - 1] < all[node]) {
                    leaf -= 1;
                    leaf
                } else {
                    node += 1;
                    node - 1
                }
            };
            let (left, right) = (smallest(), smallest());
            all[made] = all[left].saturating_add(all[right]);
            nodes.push(Node { left: left as u32, right: right as u32 });
        }
        Outputs::Hierarchical(nodes)
    }

    /// Turns the products of all rows into the probabilities of all labels, in place.
    pub fn probabilities(&self, products: &mut [f32]) {
        match self {
            Outputs::Softmax => softmax(products),
            Outputs::Independent => products.iter_mut().for_each(|product| *product = sigmoid(*product)),
            Outputs::Hierarchical(nodes) => {
                let labels = products.len();
                let mut of_label = vec![1.0; labels];
                let mut of_node = vec![1.0; nodes.len()];
                // A node comes after its branches, so the root is the last.
                for (index, node) in nodes.iter().enumerate().rev() {
                    let (own, right) = (of_node[index], sigmoid(products[index]));
                    for (branch, share) in [(node.left as usize, 1.0 - right), (node.right as usize, right)] {
                        match branch.checked_sub(labels) {
                            Some(inner) => of_node[inner] = own * share,
                            None => of_label[branch] = own * share,
                        }
                    }
                }
                products.copy_from_slice(&of_label);
            }
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Exponentials over their sum, the greatest product taken off first.
pub(super) fn softmax(products: &mut [f32]) {
    let greatest = products.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for product in products.iter_mut() {
        *product = (*product - greatest).exp();
        sum += *product;
    }
    products.iter_mut().for_each(|product| *product /= sum);
}
