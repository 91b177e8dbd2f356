//! The pickle of a state dictionary, interpreted without executing anything.
//!
//! A pickle is a program for a stack machine, and a full machine may be told to import and call whatever Python can. This
//! one knows the instructions that `torch.save` writes for a dictionary of tensors (Python's `pickletools` documents
//! them) and five names; anything else ends with its name and its place. Values lie in one list and point to each other by
//! number, so that nothing is as deep as the pickle says.

use std::collections::{BTreeMap, BTreeSet};

use kernels::quant::Encoding;

use crate::formats::Fault;

/// A tensor of the dictionary: a view of some values of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The dictionary's key.
    pub name: String,
    /// The storage's key.
    pub storage: String,
    /// How values are stored.
    pub encoding: Encoding,
    /// Values of the storage before the first.
    pub offset: usize,
    /// Lengths of the dimensions, which lie row after row.
    pub shape: Vec<usize>,
}

/// The tensors of a pickled dictionary, in its order.
///
/// # Errors
/// A pickle that is cut short, that is no dictionary of texts and tensors, or that asks for anything but tensors.
pub fn parse(bytes: &[u8]) -> Result<Vec<Tensor>, Fault> {
    let mut machine = Machine {
        bytes,
        at: 0,
        items: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    let top = machine.run()?;
    let end = machine.at.saturating_sub(1);
    let Item::Dict(entries) = &machine.items[top] else {
        return Err(Fault::new(end, "pickle", "is no dictionary of tensors"));
    };
    let mut seen = BTreeSet::new();
    let mut tensors = Vec::new();
    for &(key, value) in entries {
        let Item::Text(name) = &machine.items[key] else {
            return Err(Fault::new(end, "pickle", "has a key that is no text"));
        };
        if !seen.insert(name) {
            return Err(Fault::new(end, format!("tensor {name}"), "is there twice"));
        }
        match &machine.items[value] {
            Item::Tensor { storage, encoding, offset, shape } => tensors.push(Tensor {
                name: name.clone(),
                storage: storage.clone(),
                encoding: *encoding,
                offset: *offset,
                shape: shape.clone(),
            }),
            _ => {
                return Err(Fault::new(
                    end,
                    format!("key {name:?}"),
                    "is no tensor, as each key of a state dictionary is",
                ));
            }
        }
    }
    Ok(tensors)
}

/// A place in [`Machine::items`].
type Place = usize;

#[derive(Clone, Debug)]
enum Item {
    Nothing,
    /// Also what has no meaning here, such as floats.
    Bool,
    Int(i64),
    Text(String),
    Tuple(Vec<Place>),
    List(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch.FloatStorage` and its like.
    StorageType(Encoding),
    Storage {
        key: String,
        encoding: Encoding,
    },
    Tensor {
        storage: String,
        encoding: Encoding,
        offset: usize,
        shape: Vec<usize>,
    },
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<Item>,
    stack: Vec<Place>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Place>,
}

impl Machine<'_> {
    /// Runs to the instruction that stops; what lies on top then.
    fn run(&mut self) -> Result<Place, Fault> {
        loop {
            let start = self.at;
            let [code] = self.take()?;
            match code {
                b'.' => return self.pop(),
                0x80 => {
                    let [protocol] = self.take()?;
                    if !(2..=5).contains(&protocol) {
                        return Err(Fault::new(
                            start,
                            "pickle",
                            format!("protocol {protocol}; 2 to 5 are read"),
                        ));
                    }
                }
                // A frame says how many bytes follow, which they do anyway.
                0x95 => drop(self.take::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'N' => self.push(Item::Nothing),
                0x88 | 0x89 => self.push(Item::Bool),
                b'G' => {
                    self.take::<8>()?;
                    self.push(Item::Bool);
                }
                b'K' => {
                    let [value] = self.take()?;
                    self.push(Item::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.take()?);
                    self.push(Item::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.take()?);
                    self.push(Item::Int(value.into()));
                }
                0x8a => self.long(start)?,
                b'X' => {
                    let length = u32::from_le_bytes(self.take()?);
                    self.text(length as usize)?;
                }
                0x8c => {
                    let [length] = self.take()?;
                    self.text(length.into())?;
                }
                b')' => self.push(Item::Tuple(Vec::new())),
                b']' => self.push(Item::List(Vec::new())),
                b'}' => self.push(Item::Dict(Vec::new())),
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Item::Tuple(items));
                }
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let first = self.stack.len().checked_sub(count).filter(|first| *first >= self.floor());
                    let first = first.ok_or_else(|| self.empty())?;
                    let items = self.stack.split_off(first);
                    self.push(Item::Tuple(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(start, vec![item])?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(start, items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(start, &[key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.insert(start, &items)?;
                }
                b'q' => {
                    let [slot] = self.take()?;
                    self.remember(slot.into())?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.take()?);
                    self.remember(slot)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let [slot] = self.take()?;
                    self.recall(start, slot.into())?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.take()?);
                    self.recall(start, slot)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(start, &module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (self.items[module].clone(), self.items[name].clone()) {
                        (Item::Text(module), Item::Text(name)) => self.global(start, &module, &name)?,
                        _ => return Err(Fault::new(start, "pickle", "imports what has no name")),
                    }
                }
                b'R' => self.reduce(start)?,
                b'b' => self.build(start)?,
                b'Q' => self.persistent(start)?,
                other => {
                    let reason = match instruction(other) {
                        Some(name) => format!("{name} builds or calls objects, which is refused"),
                        None => format!("{other:#04x} is no instruction that torch.save writes"),
                    };
                    return Err(Fault::new(start, "pickle", reason));
                }
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], Fault> {
        let rest = &self.bytes[self.at..];
        match rest.get(..length) {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => {
                let reason = format!("{length} bytes are meant, and it ends after {}", rest.len());
                Err(Fault::new(self.at, "pickle", reason))
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.bytes(N)?;
        Ok(std::array::from_fn(|at| taken[at]))
    }

    /// A line of an old instruction, without its end.
    fn line(&mut self) -> Result<String, Fault> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| Fault::new(self.at, "pickle", "ends within a name"))?;
        let text = String::from_utf8_lossy(self.bytes(length)?).into_owned();
        self.at += 1;
        Ok(text)
    }

    fn text(&mut self, length: usize) -> Result<(), Fault> {
        let start = self.at;
        let text = std::str::from_utf8(self.bytes(length)?).map(str::to_owned);
        let text = text.map_err(|_| Fault::new(start, "pickle", "a text is no UTF-8"))?;
        self.push(Item::Text(text));
        Ok(())
    }

    /// A whole number of up to eight bytes.
    fn long(&mut self, start: usize) -> Result<(), Fault> {
        let [length] = self.take()?;
        if length > 8 {
            return Err(Fault::new(start, "pickle", format!("a number of {length} bytes; 8 are the most")));
        }
        let bytes = self.bytes(length.into())?;
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 > 0) { 0xff } else { 0 };
        let value = i64::from_le_bytes(std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(sign)));
        self.push(Item::Int(value));
        Ok(())
    }

    fn push(&mut self, item: Item) {
        self.stack.push(self.items.len());
        self.items.push(item);
    }

    /// What is below the newest mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn empty(&self) -> Fault {
        Fault::new(self.at.saturating_sub(1), "pickle", "takes from an empty stack")
    }

    fn pop(&mut self) -> Result<Place, Fault> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| self.empty()),
            false => Err(self.empty()),
        }
    }

    fn top(&self) -> Result<Place, Fault> {
        match self.stack.len() > self.floor() {
            true => self.stack.last().copied().ok_or_else(|| self.empty()),
            false => Err(self.empty()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Place>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| self.empty())?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, start: usize, items: Vec<Place>) -> Result<(), Fault> {
        let place = self.top()?;
        match &mut self.items[place] {
            Item::List(list) => list.extend(items),
            _ => return Err(Fault::new(start, "pickle", "appends to what is no list")),
        }
        Ok(())
    }

    fn insert(&mut self, start: usize, items: &[Place]) -> Result<(), Fault> {
        let place = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.items[place] {
            Item::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)))
            }
            _ => return Err(Fault::new(start, "pickle", "sets a key of what is no dictionary")),
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Result<(), Fault> {
        let place = self.top()?;
        self.memo.insert(slot, place);
        Ok(())
    }

    fn recall(&mut self, start: usize, slot: u32) -> Result<(), Fault> {
        let place = self.memo.get(&slot).copied();
        let place = place
            .ok_or_else(|| Fault::new(start, "pickle", format!("recalls slot {slot}, which is empty")))?;
        self.stack.push(place);
        Ok(())
    }

    /// Five names, and no more.
    fn global(&mut self, start: usize, module: &str, name: &str) -> Result<(), Fault> {
        let item = match (module, name) {
            ("collections", "OrderedDict") => Item::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Item::RebuildTensor,
            ("torch", "FloatStorage") => Item::StorageType(Encoding::F32),
            ("torch", "HalfStorage") => Item::StorageType(Encoding::F16),
            ("torch", "BFloat16Storage") => Item::StorageType(Encoding::Bf16),
            _ => {
                let full: String = format!("{module}.{name}").chars().take(100).collect();
                let reason = if module == "torch" && name.ends_with("Storage") {
                    "a type of values that is not read; float, half and bfloat16 are"
                } else {
                    "the pickle asks for it, and only tensors are read: nothing is imported or called"
                };
                return Err(Fault::new(start, full, reason));
            }
        };
        self.push(item);
        Ok(())
    }

    /// A call: of `OrderedDict` without arguments, or of what rebuilds a tensor.
    fn reduce(&mut self, start: usize) -> Result<(), Fault> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let fault = |reason: &str| Err(Fault::new(start, "pickle", reason));
        let Item::Tuple(arguments) = &self.items[arguments] else {
            return fault("calls with what are no arguments");
        };
        match &self.items[function] {
            Item::OrderedDict if arguments.is_empty() => self.push(Item::Dict(Vec::new())),
            Item::RebuildTensor => {
                // Its key waits below.
                let what = match self.stack.last().map(|place| &self.items[*place]) {
                    Some(Item::Text(key)) => format!("tensor {key}"),
                    _ => "pickle".into(),
                };
                let tensor = self.rebuild(arguments).map_err(|reason| Fault::new(start, what, reason))?;
                self.push(tensor);
            }
            _ => return fault("calls what is no function that makes tensors"),
        }
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks)`.
    fn rebuild(&self, arguments: &[Place]) -> Result<Item, String> {
        let [storage, offset, size, stride, ..] = arguments else {
            return Err("rebuilds a tensor with too few arguments".into());
        };
        let whole = |place: &Place| match &self.items[*place] {
            Item::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        };
        let all = |place: &Place| match &self.items[*place] {
            Item::Tuple(items) => items.iter().map(whole).collect::<Option<Vec<usize>>>(),
            _ => None,
        };
        let Item::Storage { key, encoding } = &self.items[*storage] else {
            return Err("rebuilds a tensor from what is no storage".into());
        };
        let (Some(offset), Some(shape), Some(stride)) = (whole(offset), all(size), all(stride)) else {
            return Err("rebuilds a tensor whose place, shape or strides are no whole numbers".into());
        };
        if shape.len() > 8 || shape.len() != stride.len() {
            return Err(format!("rebuilds a tensor of shape {shape:?} with strides {stride:?}"));
        }
        let mut dense = 1usize;
        for (length, step) in shape.iter().zip(&stride).rev() {
            if *length != 1 && *step != dense {
                return Err(format!(
                    "its shape is {shape:?} and its strides {stride:?}: it is transposed or cut; save it contiguous"
                ));
            }
            dense = dense.saturating_mul(*length);
        }
        Ok(Item::Tensor { storage: key.clone(), encoding: *encoding, offset, shape })
    }

    /// The state of an ordered dictionary is torch's note of versions. Nothing else has a state.
    fn build(&mut self, start: usize) -> Result<(), Fault> {
        let (state, object) = (self.pop()?, self.top()?);
        match (&self.items[object], &self.items[state]) {
            (Item::Dict(_), Item::Dict(_)) => Ok(()),
            _ => Err(Fault::new(start, "pickle", "sets the state of an object, which is refused")),
        }
    }

    /// `("storage", type, key, device, number of values)`.
    fn persistent(&mut self, start: usize) -> Result<(), Fault> {
        let place = self.pop()?;
        let storage = match &self.items[place] {
            Item::Tuple(parts) => match parts.iter().map(|part| &self.items[*part]).collect::<Vec<_>>()[..] {
                [Item::Text(word), Item::StorageType(encoding), Item::Text(key), ..] if word == "storage" => {
                    Some(Item::Storage { key: key.clone(), encoding: *encoding })
                }
                _ => None,
            },
            _ => None,
        };
        match storage {
            Some(storage) => {
                self.push(storage);
                Ok(())
            }
            None => Err(Fault::new(start, "pickle", "refers to something outside that is no storage")),
        }
    }
}

/// Names of the instructions that a hostile pickle needs.
fn instruction(code: u8) -> Option<&'static str> {
    Some(match code {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' => "PERSID",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
