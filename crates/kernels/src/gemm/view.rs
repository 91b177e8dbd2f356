//! Matrices in memory that someone else owns: a start, a shape and two strides, one of which is 1.

use std::marker::PhantomData;

use crate::kept::Values;

/// What a matrix to read is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    Bf16,
}

impl Element {
    /// Bytes of one.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The address so many elements after another.
    #[inline(always)]
    pub fn after(self, start: *const f32, elements: usize) -> *const f32 {
        start.wrapping_byte_add(elements.wrapping_mul(self.size()))
    }
}

/// A matrix to read, of f32 or of bf16: `rows` x `cols`, element (i, j) at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Of bf16 too; `element` says what is there.
    data: *const f32,
    element: Element,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    borrow: PhantomData<&'a [f32]>,
}

// SAFETY: a view is a shared borrow of plain values, which may be read from any thread.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// `rows` x `cols`, each row contiguous, row i beginning at `data[i * row_stride]`.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_extent(data.len(), rows, cols, row_stride);
        // SAFETY: the extent was checked, and the borrow of `data` lives as long as the view.
        unsafe { Self::from_raw(data.as_ptr(), rows, cols, row_stride) }
    }

    /// The same of values however they are kept.
    ///
    /// # Panics
    /// When there are too few.
    pub fn of(values: Values<'a>, rows: usize, cols: usize, row_stride: usize) -> Self {
        match values {
            Values::F32(data) => Self::new(data, rows, cols, row_stride),
            Values::Bf16(data) => {
                check_extent(data.len(), rows, cols, row_stride);
                let data = data.as_ptr().cast();
                Self {
                    data,
                    element: Element::Bf16,
                    rows,
                    cols,
                    row_stride,
                    col_stride: 1,
                    borrow: PhantomData,
                }
            }
        }
    }

    /// The view of a part of a buffer of which other tasks write other parts, where no slice may exist.
    ///
    /// # Safety
    /// For `'a`, all elements of the `rows` rows of `cols` are readable, and nobody writes to them.
    pub unsafe fn from_raw(data: *const f32, rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, element: Element::F32, rows, cols, row_stride, col_stride: 1, borrow: PhantomData }
    }

    /// The same elements, rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of its elements.
    pub(crate) fn bytes(&self) -> usize {
        self.rows * self.cols * self.element.size()
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(super) fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// The address of an element. It may lie outside the matrix as long as it is not read.
    pub(super) fn at(&self, row: usize, col: usize) -> *const f32 {
        self.element.after(self.data, row * self.row_stride + col * self.col_stride)
    }
}

/// A matrix of f32 to write: `rows` x `cols`, element (i, j) at `i * row_stride + j`.
#[derive(Debug)]
pub struct ViewMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a mutable view is an exclusive borrow of f32, which may move to another thread.
unsafe impl Send for ViewMut<'_> {}
// SAFETY: a shared `&ViewMut` gives out an address only; writing through it is the caller's unsafe act.
unsafe impl Sync for ViewMut<'_> {}

impl<'a> ViewMut<'a> {
    /// `rows` x `cols`, each row contiguous, row i beginning at `data[i * row_stride]`.
    ///
    /// # Panics
    /// When `data` is too short, or rows would overlap.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_extent(data.len(), rows, cols, row_stride);
        assert!(rows <= 1 || row_stride >= cols, "rows of {cols} columns overlap at stride {row_stride}");
        // SAFETY: the extent was checked, and the exclusive borrow of `data` lives as long as the view.
        unsafe { Self::from_raw(data.as_mut_ptr(), rows, cols, row_stride) }
    }

    /// The view of a part of a buffer of which other tasks write other parts, where no slice may exist.
    ///
    /// # Safety
    /// For `'a`, all elements of the `rows` rows of `cols` are writable, no two of them are the same, and nobody
    /// else reads or writes them.
    pub unsafe fn from_raw(data: *mut f32, rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, borrow: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The address of an element. It may lie outside the matrix as long as it is not used.
    pub(crate) fn at(&self, row: usize, col: usize) -> *mut f32 {
        self.data.wrapping_add(row * self.row_stride + col)
    }
}

fn check_extent(len: usize, rows: usize, cols: usize, row_stride: usize) {
    let extent = match (rows, cols) {
        (0, _) | (_, 0) => Some(0),
        _ => (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(cols)),
    };
    assert!(
        extent.is_some_and(|extent| extent <= len),
        "a matrix of {rows} x {cols} at stride {row_stride} does not fit in {len} values"
    );
}
