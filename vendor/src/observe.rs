//! Observes the nodes of a computation: the inputs of matrix products (importance matrices) and the values of named nodes.
//! llama.cpp's scheduler calls a callback for every node of its graph (`cb_eval`); `llama-cpp-2` cannot set it.

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_char, c_void};

/// The C struct, which `llama-cpp-2` wraps in a struct with this one field.
type Raw = sys::llama_context_params;

/// Receives the nodes of the computations of one context.
pub trait Observer: Send + Sync {
    /// Returns whether [`Observer::sees`] is to be called with this node after it was computed. The values of the node do
    /// not exist yet. Each node that is observed interrupts the computation, so ask for few.
    fn wants(&self, node: &Node<'_>) -> bool;

    /// Receives a node whose values, and those of its inputs, were computed.
    fn sees(&self, node: &Node<'_>);
}

/// A node of the graph that is being computed.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a>(&'a sys::ggml_tensor);

impl Node<'_> {
    /// Returns its name, such as `result_norm`; empty if the name is not UTF-8.
    #[must_use]
    pub fn name(&self) -> &str {
        text(&self.0.name)
    }

    /// If the node is a matrix product: the name of its first factor, such as `blk.0.attn_q.weight`, without the prefix
    /// `DEVICE#` and the suffix `#COPY` of a tensor that the scheduler copied to another device.
    #[must_use]
    pub fn weights(&self) -> Option<&str> {
        let (weights, _) = self.factors()?;
        let name = text(&weights.name);
        Some(match name.split_once('#') {
            Some((_, name)) => name.split_once('#').map_or(name, |(name, _)| name),
            None => name,
        })
    }

    /// If the node is a matrix product: its second factor, the activations.
    #[must_use]
    pub fn input(&self) -> Option<Values<'_>> {
        let (weights, input) = self.factors()?;
        Some(Values { tensor: input, matrices: [count(weights.ne[2]), count(weights.ne[3])] })
    }

    /// Returns the values of the node.
    #[must_use]
    pub fn output(&self) -> Values<'_> {
        Values { tensor: self.0, matrices: [1, 1] }
    }

    fn factors(&self) -> Option<(&sys::ggml_tensor, &sys::ggml_tensor)> {
        if self.0.op != sys::GGML_OP_MUL_MAT {
            return None;
        }
        // SAFETY: ggml sets the first two sources of a matrix product to tensors of the same graph, which live at least
        // as long as the node; the callback borrows the node.
        let (weights, input) = unsafe { (self.0.src[0].as_ref(), self.0.src[1].as_ref()) };
        weights.zip(input)
    }
}

/// The values of a tensor: rows of equal length, in up to three more dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    tensor: &'a sys::ggml_tensor,
    /// Dimensions 2 and 3 of the weights that the rows are multiplied with.
    matrices: [usize; 2],
}

impl Values<'_> {
    /// Values of one row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        count(self.tensor.ne[0])
    }

    /// Rows of one matrix: tokens of the batch.
    #[must_use]
    pub fn rows(&self) -> usize {
        count(self.tensor.ne[1])
    }

    /// All rows.
    #[must_use]
    pub fn all_rows(&self) -> usize {
        self.rows() * count(self.tensor.ne[2]) * count(self.tensor.ne[3])
    }

    /// Number of weight matrices that the rows are multiplied with: 1 for a matrix, more for a stack of matrices.
    #[must_use]
    pub fn n_matrices(&self) -> usize {
        self.matrices.iter().product()
    }

    /// Whether the values are f32.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        self.tensor.type_ == sys::GGML_TYPE_F32
    }

    /// Calls `see` with each row, and the index of the weight matrix that it is multiplied with. Copies the values into
    /// `scratch` first, from any device. Returns false if the values are not f32, or not contiguous within a row.
    pub fn each_row(&self, scratch: &mut Vec<f32>, mut see: impl FnMut(usize, &[f32])) -> bool {
        const WIDTH: usize = size_of::<f32>();
        let tensor = self.tensor;
        if !self.is_f32() || tensor.nb[0] != WIDTH || tensor.nb.iter().any(|stride| !stride.is_multiple_of(WIDTH)) {
            return false;
        }
        // SAFETY: the tensor is valid; the function only reads its shape.
        let bytes = unsafe { sys::ggml_nbytes(tensor) };
        scratch.resize(bytes.div_ceil(WIDTH), 0.0);
        // SAFETY: reads the first `bytes` bytes of the tensor's data, which is what the tensor spans, into a vector of at
        // least this size. The tensor was computed, so it has data on some device.
        unsafe { sys::ggml_backend_tensor_get(tensor, scratch.as_mut_ptr().cast::<c_void>(), 0, bytes) };
        let [_, rows, n2, n3] = tensor.ne.map(count);
        let stride = tensor.nb.map(|bytes| bytes / WIDTH);
        for i3 in 0..n3 {
            for i2 in 0..n2 {
                let matrix = (i3 % self.matrices[1].max(1)) * self.matrices[0] + i2 % self.matrices[0].max(1);
                for row in 0..rows {
                    let at = row * stride[1] + i2 * stride[2] + i3 * stride[3];
                    let Some(values) = scratch.get(at..at + self.row_len()) else { return false };
                    see(matrix, values);
                }
            }
        }
        true
    }
}

/// Lets `observer` observe the computations of the context created from `params`. The observer is never freed, because
/// llama.cpp does not report when the context is freed: it should hold a [`Weak`](std::sync::Weak) to what it fills.
#[must_use]
pub fn observe(mut params: LlamaContextParams, observer: Box<dyn Observer>) -> LlamaContextParams {
    const { assert!(size_of::<LlamaContextParams>() == size_of::<Raw>()) };
    const { assert!(align_of::<LlamaContextParams>() == align_of::<Raw>()) };
    // A thin pointer, which fits into C's, to the fat one.
    let observer: &'static Registered = Box::leak(Box::new(Registered(observer)));
    // SAFETY: at the pinned version `LlamaContextParams` has one field, a `Raw` (src/context/params.rs). The struct is
    // not larger than that field, so the field is at offset 0, and the exclusive borrow makes this the only access.
    // Both written fields are plain C values: a function, and a pointer that is valid until the process ends.
    unsafe {
        let raw = &raw mut params;
        let raw = raw.cast::<Raw>();
        (*raw).cb_eval = Some(call_observer);
        (*raw).cb_eval_user_data = std::ptr::from_ref(observer).cast::<c_void>().cast_mut();
    }
    params
}

/// What llama.cpp's pointer points to.
struct Registered(Box<dyn Observer>);

/// llama.cpp's callback: with `ask`, returns whether the node is wanted; without, the node was computed, and the result is
/// whether to go on.
unsafe extern "C" fn call_observer(node: *mut sys::ggml_tensor, ask: bool, observer: *mut c_void) -> bool {
    // SAFETY: the only pointer ever registered with this function is a leaked `Registered`, and it is only read.
    let Registered(observer) = unsafe { &*observer.cast::<Registered>() };
    // SAFETY: the scheduler passes a node of its graph, which nothing changes during the call.
    let Some(node) = (unsafe { node.as_ref() }) else { return !ask };
    let node = Node(node);
    if ask {
        return observer.wants(&node);
    }
    observer.sees(&node);
    true
}

/// Returns the text of a name field.
fn text(name: &[c_char; 64]) -> &str {
    let bytes = name.map(c_char::cast_unsigned);
    let Some(len) = bytes.iter().position(|byte| *byte == 0) else { return "" };
    // SAFETY: the field has a NUL at `len`, so a C string begins at its first byte. It lives as long as the borrow.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    debug_assert_eq!(name.count_bytes(), len);
    name.to_str().unwrap_or_default()
}

fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}
