//! How a product is cut: C into items, K into chunks, rows into tiles.

use super::kernel::Kernel;
use std::ops::Range;

/// Bytes of the resident operand: half of a level-2 cache of 1 MiB and more.
const RESIDENT_WORDS: usize = 144 * 1024;
/// Words along K of the resident operand's rows, or columns, in an item: the other operand is packed once for so many.
const RESIDENT: usize = 288;
/// So few tiles are multiplied with right panels where they lie.
pub(super) const FEW_TILES: usize = 6;
/// Items for each thread, so that one that is held up leaves its work to others.
pub(super) const ITEMS: usize = 4;
/// Most words of an operand that is packed whole: 32 MiB. Beyond, the memory weighs more than packing again.
pub(super) const SHARED_WORDS: usize = 8 << 20;
/// Tiles in an item that keep the streaming panels busy enough.
pub(super) const ENOUGH_TILES: usize = 4;

/// How C is cut into items, and K into chunks that fit the resident operand.
pub(super) struct Cut {
    pub tiles: Tiles,
    pub panels: usize,
    pub blocks: usize,
    pub row_parts: usize,
    pub panel_parts: usize,
    pub chunks: usize,
    pub left_resident: bool,
    /// Whether all of the left operand is packed before the items begin, since several would pack it.
    pub share_left: bool,
    /// The same of the right operand, which makes the left one resident.
    pub share_right: bool,
}

impl Cut {
    /// For C of `rows` x `columns` and `depth` values of K; `packed`: the right operand is packed already.
    pub fn new(kernel: &Kernel, [rows, columns, depth]: [usize; 3], packed: bool, threads: usize) -> Self {
        let tiles = Tiles::new(rows, kernel.rows);
        let panels = columns.div_ceil(kernel.columns);
        let blocks = depth.div_ceil(kernel.block);
        let wanted = if threads > 1 { ITEMS * threads } else { 1 };
        let most = if blocks == 1 { 2 * RESIDENT } else { RESIDENT };
        let fits = |lanes: usize, words: usize| lanes * words <= SHARED_WORDS;
        let fits_right = !packed && fits(panels * kernel.columns, kernel.right.words(depth));

        let mut left_resident = packed || rows <= columns.max(FEW_TILES * kernel.rows);
        let (mut row_parts, mut panel_parts) = if left_resident {
            let parts = rows.div_ceil(most);
            (parts, wanted.div_ceil(parts).min(panels))
        } else {
            let parts = columns.div_ceil(most);
            (wanted.div_ceil(parts).min(tiles.count), parts)
        };
        let share_right = fits_right && row_parts > 1;
        if share_right {
            left_resident = true;
            row_parts = rows.div_ceil(most).max(wanted.min(tiles.count / ENOUGH_TILES)).max(1);
            panel_parts = wanted.div_ceil(row_parts).min(panels);
        }
        let share_left = left_resident && panel_parts > 1 && fits(rows, kernel.left.words(depth));
        let resident = if left_resident { rows.div_ceil(row_parts) } else { columns.div_ceil(panel_parts) };
        let words = kernel.left.words(kernel.block).max(kernel.right.words(kernel.block));
        let chunk = (RESIDENT_WORDS / (resident.max(kernel.rows) * words)).max(1);
        let chunks = blocks.div_ceil(chunk);
        Self { tiles, panels, blocks, row_parts, panel_parts, chunks, left_resident, share_left, share_right }
    }
}

/// Rows cut into tiles whose heights differ by one at most, the taller ones first.
pub(super) struct Tiles {
    pub count: usize,
    height: usize,
    taller: usize,
}

impl Tiles {
    pub fn new(rows: usize, tallest: usize) -> Self {
        let count = rows.div_ceil(tallest);
        Self { count, height: rows / count, taller: rows % count }
    }

    pub fn start(&self, tile: usize) -> usize {
        tile * self.height + tile.min(self.taller)
    }

    pub fn height(&self, tile: usize) -> usize {
        self.height + usize::from(tile < self.taller)
    }
}

/// The `index`th of `parts` parts of `0..total`, as equal as can be.
pub(super) fn part(total: usize, parts: usize, index: usize) -> Range<usize> {
    let (size, rest) = (total / parts, total % parts);
    let start = index * size + index.min(rest);
    start..start + size + usize::from(index < rest)
}

/// The values of K that the `number`th block holds.
pub(super) fn block_range(number: usize, block: usize, depth: usize) -> Range<usize> {
    let start = number * block;
    start..(start + block).min(depth)
}
