//! Tiles of up to 32 x 32 with AMX: the processor multiplies 16 rows of 32 bf16 values with 32 x 16 others in one
//! instruction, 16 times what its vectors do. Four of the eight tile registers hold sums, two the left strip, two the
//! right panel, so that each loaded kilobyte is used twice.
//!
//! The compiler knows these registers only by name, so each tile is one block of assembly. What it relies on from
//! outside is the configuration of the tiles, which [`Session`] loads for a thread and takes back.

use super::ahead;
use super::amx_pack::pack;
use super::kernel::{Format, Kernel, Tile, TileFunction};
use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;

/// Rows of one tile register, and words in one of its rows.
pub(super) const SIDE: usize = 16;
/// A tile of four registers.
pub(super) const COLUMNS: usize = 2 * SIDE;
pub(super) const ROWS: usize = 2 * SIDE;

/// Products of bf16 by tiles.
pub(super) static TILES: Kernel = Kernel {
    block: 256,
    rows: ROWS,
    columns: COLUMNS,
    lanes: SIDE,
    left: Format::RowsOfPairs,
    right: Format::PaddedPairs,
    tiles: &[&heights::<1>(), &heights::<2>()],
    packer: pack,
    packs_bf16: true,
    needs_session: true,
};

/// The functions for every height: one or two registers of rows.
const fn heights<const VECTORS: usize>() -> [TileFunction; ROWS] {
    let mut functions = [multiply::<1, VECTORS> as TileFunction; ROWS];
    let mut row = SIDE;
    while row < ROWS {
        functions[row] = multiply::<2, VECTORS> as TileFunction;
        row += 1;
    }
    functions
}

/// Whether the processor has tiles of bf16 and the system lets this process use them. Linux asks that of each
/// process once, since their state makes signal frames 8 KB larger.
pub(crate) fn permitted() -> bool {
    let has = std::is_x86_feature_detected!("avx512bf16") && {
        // Leaf 7 EDX: bit 22 AMX-BF16, bit 24 AMX-TILE. The library's own detection of them is not stable yet.
        let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
        features >> 22 & 1 == 1 && features >> 24 & 1 == 1
    };
    has && ask()
}

#[cfg(target_os = "linux")]
fn ask() -> bool {
    const REQUEST: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    // SAFETY: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

/// The tiles of this thread, configured while it lives. Sessions nest; the outermost one does the work, which takes
/// some hundred cycles, and its end spares context switches 8 KB of registers.
pub(super) struct Session(PhantomData<*const ()>);

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
pub(crate) struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Every register whole: 16 rows of 64 bytes.
pub(crate) static ALL_FULL: Configuration = Configuration::new([64; 8], [16; 8]);

impl Configuration {
    /// Bytes of a row, and rows, of each register.
    pub(crate) const fn new(row_bytes: [u16; 8], rows: [u8; 8]) -> Self {
        let mut all = Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut register = 0;
        while register < 8 {
            all.row_bytes[register] = row_bytes[register];
            all.rows[register] = rows[register];
            register += 1;
        }
        all
    }
}

/// The tiles of this thread in a configuration of another operation's, until it is dropped. A [`Session`] around it gets
/// its own back; one may not begin within.
pub(crate) struct Configured(PhantomData<*const ()>);

impl Configured {
    /// # Safety
    /// [`permitted`] has returned true, and the configuration is one of the first palette.
    pub unsafe fn begin(configuration: &'static Configuration) -> Self {
        // SAFETY: the caller's contract.
        unsafe { asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, readonly, preserves_flags)) }
        Self(PhantomData)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: one began, so the processor has tiles; nobody else of this thread uses them now.
        unsafe {
            if DEPTH.get() > 0 {
                asm!("ldtilecfg [{}]", in(reg) &ALL_FULL, options(nostack, readonly, preserves_flags));
            } else {
                asm!("tilerelease", options(nostack, nomem, preserves_flags));
            }
        }
    }
}

impl Session {
    /// # Safety
    /// [`permitted`] has returned true.
    pub unsafe fn begin() -> Self {
        if DEPTH.replace(DEPTH.get() + 1) == 0 {
            // SAFETY: the processor has tiles, and the configuration is one of its palette.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &ALL_FULL, options(nostack, readonly, preserves_flags)) }
        }
        Self(PhantomData)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            // SAFETY: a session began, so the processor has tiles; nobody else of this thread uses them now.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
        }
    }
}

/// A tile of C that is not made of whole registers, on its way to them and back.
#[repr(align(64))]
struct Edge([f32; ROWS * COLUMNS]);

/// # Safety
/// As [`super::kernel::TileFunction`], within a [`Session`].
unsafe fn multiply<const REGISTERS: usize, const VECTORS: usize>(tile: &Tile) {
    let height = tile.left.step;
    if height.is_multiple_of(SIDE) && tile.columns.is_multiple_of(SIDE) {
        // SAFETY: the caller's contract; all of the registers' rows and columns lie in C.
        return unsafe { registers::<REGISTERS, VECTORS>(tile, tile.c, tile.c_stride) };
    }
    let mut edge = Edge([0.0; ROWS * COLUMNS]);
    let row = |row: usize| tile.c.wrapping_add(row * tile.c_stride);
    if tile.add {
        for (index, to) in edge.0.chunks_exact_mut(COLUMNS).take(height).enumerate() {
            // SAFETY: the tile's rows and columns lie in C.
            unsafe { std::ptr::copy_nonoverlapping(row(index), to.as_mut_ptr(), tile.columns) }
        }
    }
    // SAFETY: the caller's contract; the edge has room for all rows and columns.
    unsafe { registers::<REGISTERS, VECTORS>(tile, edge.0.as_mut_ptr(), COLUMNS) }
    for (index, from) in edge.0.chunks_exact(COLUMNS).take(height).enumerate() {
        // SAFETY: the tile's rows and columns lie in C.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), row(index), tile.columns) }
    }
}

/// C, or C plus, the product of the strips, for whole registers. A left strip that ends within a register is read
/// up to the register's last row; what the rows beyond give is never stored, and rows do not mix.
///
/// Beside each step of K, 8 lines of what will be written are brought near, and 8 of what will be packed next.
///
/// # Safety
/// As [`super::kernel::TileFunction`], within a [`Session`]; `c` has room for all rows and columns of the registers,
/// and a kilobyte after the left strip can be read.
#[inline(always)]
unsafe fn registers<const REGISTERS: usize, const VECTORS: usize>(tile: &Tile, c: *mut f32, c_stride: usize) {
    let steps = tile.depth.div_ceil(2 * SIDE);
    let ahead_step = 4 * tile.ahead.step;
    // Two steps of K bring a row of 16 lines; the next one begins a jump after it.
    let ahead_jump = (4 * tile.ahead.jump).wrapping_sub(ahead::ROWS * ahead_step);
    macro_rules! multiply {
        ($zero:literal, $load:literal, $step:literal, $store:literal) => {
            asm!(
                "lea {lower}, [{c} + 8 * {c_bytes}]",
                "lea {lower}, [{lower} + 8 * {c_bytes}]",
                "test {add:l}, {add:l}",
                "jnz 3f",
                $zero,
                "jmp 4f",
                "3:",
                $load,
                "4:",
                "2:",
                $step,
                "prefetchw [{goal}]",
                "prefetchw [{goal} + 64]",
                "prefetchw [{goal} + {goal_bytes}]",
                "prefetchw [{goal} + {goal_bytes} + 64]",
                "lea {goal}, [{goal} + 2 * {goal_bytes}]",
                "prefetchw [{goal}]",
                "prefetchw [{goal} + 64]",
                "prefetchw [{goal} + {goal_bytes}]",
                "prefetchw [{goal} + {goal_bytes} + 64]",
                "lea {goal}, [{goal} + 2 * {goal_bytes}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + {ahead_step}]",
                "lea {ahead}, [{ahead} + 2 * {ahead_step}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + {ahead_step}]",
                "lea {ahead}, [{ahead} + 2 * {ahead_step}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + {ahead_step}]",
                "lea {ahead}, [{ahead} + 2 * {ahead_step}]",
                "prefetcht1 [{ahead}]",
                "prefetcht1 [{ahead} + {ahead_step}]",
                "lea {ahead}, [{ahead} + 2 * {ahead_step}]",
                "add {left}, {left_step}",
                "add {right}, 2048",
                "test {steps:l}, 1",
                "jz 5f",
                "add {ahead}, {ahead_jump}",
                "5:",
                "dec {steps}",
                "jnz 2b",
                $store,
                add = in(reg) usize::from(tile.add),
                c = in(reg) c,
                lower = out(reg) _,
                goal = inout(reg) tile.goal.0 => _,
                goal_bytes = in(reg) 4 * tile.goal.1,
                c_bytes = in(reg) 4 * c_stride,
                left = inout(reg) tile.left.start => _,
                left_step = in(reg) tile.left.step * 64,
                right = inout(reg) tile.right.start => _,
                row = in(reg) 64usize,
                steps = inout(reg) steps => _,
                ahead = inout(reg) tile.ahead.start => _,
                ahead_step = in(reg) ahead_step,
                ahead_jump = in(reg) ahead_jump,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's contract: strips, panels and C are readable, C writable, and the tiles are configured.
    unsafe {
        match (REGISTERS, VECTORS) {
            (2, 2) => multiply!(
                "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3",
                "tileloadd tmm0, [{c} + {c_bytes}]\ntileloadd tmm1, [{c} + {c_bytes} + 64]
                 tileloadd tmm2, [{lower} + {c_bytes}]\ntileloadd tmm3, [{lower} + {c_bytes} + 64]",
                "tileloadd tmm4, [{left} + {row}]\ntileloadd tmm6, [{right} + 2 * {row}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm7, [{right} + 2 * {row} + 64]
                 tdpbf16ps tmm1, tmm4, tmm7
                 tileloadd tmm5, [{left} + {row} + 1024]
                 tdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7",
                "tilestored [{c} + {c_bytes}], tmm0\ntilestored [{c} + {c_bytes} + 64], tmm1
                 tilestored [{lower} + {c_bytes}], tmm2\ntilestored [{lower} + {c_bytes} + 64], tmm3"
            ),
            (2, _) => multiply!(
                "tilezero tmm0\ntilezero tmm2",
                "tileloadd tmm0, [{c} + {c_bytes}]\ntileloadd tmm2, [{lower} + {c_bytes}]",
                "tileloadd tmm6, [{right} + 2 * {row}]\ntileloadd tmm4, [{left} + {row}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm5, [{left} + {row} + 1024]
                 tdpbf16ps tmm2, tmm5, tmm6",
                "tilestored [{c} + {c_bytes}], tmm0\ntilestored [{lower} + {c_bytes}], tmm2"
            ),
            (_, 2) => multiply!(
                "tilezero tmm0\ntilezero tmm1",
                "tileloadd tmm0, [{c} + {c_bytes}]\ntileloadd tmm1, [{c} + {c_bytes} + 64]",
                "tileloadd tmm4, [{left} + {row}]\ntileloadd tmm6, [{right} + 2 * {row}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm7, [{right} + 2 * {row} + 64]
                 tdpbf16ps tmm1, tmm4, tmm7",
                "tilestored [{c} + {c_bytes}], tmm0\ntilestored [{c} + {c_bytes} + 64], tmm1"
            ),
            _ => multiply!(
                "tilezero tmm0",
                "tileloadd tmm0, [{c} + {c_bytes}]",
                "tileloadd tmm4, [{left} + {row}]\ntileloadd tmm6, [{right} + 2 * {row}]
                 tdpbf16ps tmm0, tmm4, tmm6",
                "tilestored [{c} + {c_bytes}], tmm0"
            ),
        }
    }
}
