//! Which instruction set the kernels run on, found once at run time, and [`dispatch!`], which compiles one plain
//! loop for each of them. It holds no kernel itself; the released binary is built for the baseline processor, so
//! every hot loop of this crate is reached through here.

use std::cell::Cell;
use std::sync::OnceLock;

/// The instruction sets that kernels are compiled for, each with everything that those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What the compilation target promises: SSE2 on x86-64, NEON on aarch64. The specification of the others.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with the bf16 dot product (`vdpbf16ps`).
    Avx512Bf16,
    /// AVX-512 with tiles of bf16 (AMX), which multiply 16 times as fast as vectors.
    Amx,
}

impl Isa {
    /// All levels, the plainest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];
}

/// The best level that this processor has.
pub fn detected() -> Isa {
    static DETECTED: OnceLock<Isa> = OnceLock::new();
    *DETECTED.get_or_init(detect)
}

/// The level that kernels called from this thread use: the best one, unless [`with`] forces a lower one.
#[inline]
pub fn current() -> Isa {
    FORCED.get().unwrap_or_else(detected)
}

/// Whether this processor multiplies bf16 faster than f32, so that rounding to it pays.
///
/// Not on Intel's processors without tiles: there a `vdpbf16ps` takes as long as four fused additions (a whole step
/// of 6.6M parameters ran at 4,900 tokens a second in bf16 and at 6,900 in f32).
pub fn bf16_pays() -> bool {
    match detected() {
        Isa::Amx => true,
        Isa::Avx512Bf16 => !is_intel(),
        Isa::Portable | Isa::Avx2 | Isa::Avx512 => false,
    }
}

/// The levels that this processor can run, the plainest first; tests go through all of them.
pub fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|&isa| isa <= detected())
}

/// Runs `body` with the kernels held to `isa`, or to the best level that this processor has if that is lower.
///
/// `body` runs in a rayon pool of its own with `threads` workers, all of them held to `isa`, so tests that run at
/// the same time do not disturb each other. Pools that `body` builds itself are not held.
///
/// # Panics
/// When the operating system refuses to start the threads.
pub fn with<R: Send>(isa: Isa, threads: usize, body: impl FnOnce() -> R + Send) -> R {
    let isa = isa.min(detected());
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .start_handler(move |_| FORCED.set(Some(isa)))
        .build()
        .expect("threads for a rayon pool")
        .install(body)
}

/// `a * b + c`, rounded once where the processor has the instruction (`FUSED`, which [`dispatch!`] provides) and
/// twice elsewhere, where `f32::mul_add` would call a library function for every element.
#[inline(always)]
pub fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Whether the baseline of the compilation target multiplies and adds in one instruction.
pub(crate) const BASELINE_FUSES: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// Whether Intel made this processor: what pays on it was measured apart. Asked once, since a virtual machine takes long to
/// answer.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_intel() -> bool {
    static INTEL: OnceLock<bool> = OnceLock::new();
    *INTEL.get_or_init(|| {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

fn detect() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma");
        let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
        if avx512 && crate::gemm::amx::permitted() {
            return Isa::Amx;
        }
        if avx512 && has!("avx512bf16") {
            return Isa::Avx512Bf16;
        }
        if avx512 {
            return Isa::Avx512;
        }
        if avx2 {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

/// Defines a function whose body is compiled for AVX-512, for AVX2 and for the baseline, and which picks the best
/// one at each call. The name in angle brackets is a constant that says whether multiplication and addition fuse;
/// it is meant for [`mul_add`].
///
/// The body is a plain loop that the compiler vectorises. It keeps the order of floating-point additions, so a sum
/// is only vectorised when it is written with one partial sum a lane (`[f32; 16]`). What the body calls must be
/// `#[inline(always)]`, or it is compiled for the baseline. Call it once for a row or more, not once an element.
///
/// ```text
/// isa::dispatch! {
///     /// `y += factor * x`.
///     pub fn add_scaled<FUSED>(y: &mut [f32], x: &[f32], factor: f32) {
///         for (y, x) in y.iter_mut().zip(x) {
///             *y = isa::mul_add::<FUSED>(factor, *x, *y);
///         }
///     }
/// }
/// ```
macro_rules! dispatch {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$fused:ident>($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body<const $fused: bool>($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                match $crate::isa::current() {
                    $crate::isa::Isa::Avx512 | $crate::isa::Isa::Avx512Bf16 | $crate::isa::Isa::Amx => {
                        // SAFETY: `current` never exceeds what the processor was found to have.
                        return unsafe { avx512($($argument),*) };
                    }
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::isa::Isa::Portable => {}
                }
            }
            body::<{ $crate::isa::BASELINE_FUSES }>($($argument),*)
        }
    )+};
}
#[allow(unused_imports)] // The macro is for every kernel file; none of them has to use it.
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    dispatch! {
        fn add_scaled<FUSED>(y: &mut [f32], x: &[f32], factor: f32) -> usize {
            for (y, x) in y.iter_mut().zip(x) {
                *y = mul_add::<FUSED>(factor, *x, *y);
            }
            y.len()
        }
    }

    #[test]
    fn dispatched_body_runs_at_every_level() {
        for isa in available() {
            let (mut y, x) = (vec![1.0f32; 37], vec![3.0f32; 37]);
            let count = with(isa, 1, || add_scaled(&mut y, &x, 0.5));
            assert_eq!((count, y), (37, vec![2.5; 37]), "{isa:?}");
        }
    }

    #[test]
    fn the_level_is_held_in_every_worker_and_nowhere_else() {
        let seen = with(Isa::Portable, 3, || rayon::broadcast(|_| current()));
        assert_eq!(seen, [Isa::Portable; 3]);
        assert_eq!(current(), detected());
    }

    #[test]
    fn fused_products_round_once() {
        let (a, c) = (1.0 + f32::EPSILON, -(1.0 + 2.0 * f32::EPSILON));
        assert_eq!(mul_add::<true>(a, a, c), f32::EPSILON * f32::EPSILON);
        assert_eq!(mul_add::<false>(a, a, c), 0.0);
    }
}
