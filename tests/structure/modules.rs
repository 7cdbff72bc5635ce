//! Reads the modules of the workspace from their files and resolves paths in them. Skips items that are compiled only for
//! tests.

use crate::names::{Meaning, Names, attributes, for_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::Item;

/// The modules of all crates.
pub(crate) struct Tree {
    /// Paths of the files, relative to the workspace.
    pub(crate) files: Vec<String>,
    pub(crate) modules: Vec<Module>,
    /// Root modules by the name of their crate.
    roots: BTreeMap<String, usize>,
}

/// A module: a file, or a `mod x { … }` within one.
pub(crate) struct Module {
    /// Index in [`Tree::files`].
    pub(crate) file: usize,
    parent: Option<usize>,
    root: usize,
    /// Its items without `mod` items.
    pub(crate) items: Vec<Item>,
    names: Names,
}

/// The target of a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    Module(usize),
    /// An item defined in this file.
    Item(usize),
}

impl Tree {
    /// Reads all modules of `crates` (name, root file) of the workspace in `folder`.
    pub(crate) fn read(folder: &Path, crates: &[(&str, &str)]) -> Self {
        let mut tree = Self { files: Vec::new(), modules: Vec::new(), roots: BTreeMap::new() };
        for (name, root) in crates {
            let file = folder.join(root);
            let module = tree.add_file(folder, &file, file.parent().expect("a file is in a folder"), None);
            tree.roots.insert((*name).to_owned(), module);
        }
        tree
    }

    /// Adds the module in `file`, whose child modules are files in `children`.
    fn add_file(&mut self, folder: &Path, file: &Path, children: &Path, parent: Option<usize>) -> usize {
        let text = std::fs::read_to_string(file).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        let name = file.strip_prefix(folder).expect("modules are in the workspace").to_string_lossy();
        self.files.push(name.replace('\\', "/"));
        self.add(folder, self.files.len() - 1, children, parent, parsed.items)
    }

    fn add(&mut self, folder: &Path, file: usize, children: &Path, parent: Option<usize>, items: Vec<Item>) -> usize {
        let id = self.modules.len();
        let root = parent.map_or(id, |parent| self.modules[parent].root);
        let (modules, items): (Vec<_>, Vec<_>) = items
            .into_iter()
            .filter(|item| !for_tests(attributes(item)))
            .partition(|item| matches!(item, Item::Mod(_)));
        let mut names = Names::default();
        items.iter().for_each(|item| names.add(item));
        self.modules.push(Module { file, parent, root, items, names });
        for module in modules {
            let Item::Mod(module) = module else { unreachable!() };
            let name = module.ident.to_string();
            let child = if let Some((_, items)) = module.content {
                self.add(folder, file, &children.join(&name), Some(id), items)
            } else {
                let (file, children) = module_file(children, &name);
                self.add_file(folder, &file, &children, Some(id))
            };
            self.modules[id].names.insert(name, Meaning::Module(child));
        }
        id
    }

    /// Returns the targets of `path`, which is written in `module`, inside blocks with the names `blocks`: none for names of
    /// other crates, of the language, and of local variables.
    pub(crate) fn resolve(&self, module: usize, blocks: &[Names], path: &[String]) -> BTreeSet<Found> {
        self.follow(module, blocks, path, &mut BTreeSet::new())
    }

    fn follow(&self, module: usize, blocks: &[Names], path: &[String], seen: &mut Seen) -> BTreeSet<Found> {
        let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
        let mut found = match first.as_str() {
            "crate" => BTreeSet::from([Found::Module(self.modules[module].root)]),
            "self" => BTreeSet::from([Found::Module(module)]),
            "super" => self.modules[module].parent.map(Found::Module).into_iter().collect(),
            name => self.in_scope(module, blocks, name, seen),
        };
        for name in rest {
            // Variants and associated items belong to the file of their type.
            let modules = found.iter().filter_map(|found| match found {
                Found::Module(module) => Some(*module),
                Found::Item(_) => None,
            });
            let modules: Vec<usize> = modules.collect();
            if modules.is_empty() {
                return found;
            }
            found = modules.into_iter().flat_map(|module| self.member(module, name, seen)).collect();
        }
        found
    }

    fn in_scope(&self, module: usize, blocks: &[Names], name: &str, seen: &mut Seen) -> BTreeSet<Found> {
        for (depth, block) in blocks.iter().enumerate().rev() {
            let found = self.named(module, &blocks[..depth], block, name, seen);
            if !found.is_empty() {
                return found;
            }
        }
        let found = self.member(module, name, seen);
        if found.is_empty() {
            self.roots.get(name).map(|root| Found::Module(*root)).into_iter().collect()
        } else {
            found
        }
    }

    /// Whether an import that begins with `name` is from a crate outside the workspace. Its name counts as defined where it is
    /// imported, so that a re-export of it has a file.
    fn is_external(&self, module: usize, blocks: &[Names], name: &str) -> bool {
        let known = |names: &Names| names.names.contains_key(name);
        !["crate", "self", "super"].contains(&name)
            && !blocks.iter().any(known)
            && !known(&self.modules[module].names)
            && self.in_scope(module, blocks, name, &mut BTreeSet::new()).is_empty()
    }

    fn member(&self, module: usize, name: &str, seen: &mut Seen) -> BTreeSet<Found> {
        if name == "super" {
            return self.modules[module].parent.map(Found::Module).into_iter().collect();
        }
        if !seen.insert((module, name.to_owned())) {
            return BTreeSet::new();
        }
        let found = self.named(module, &[], &self.modules[module].names, name, seen);
        seen.remove(&(module, name.to_owned()));
        found
    }

    fn named(&self, module: usize, blocks: &[Names], names: &Names, name: &str, seen: &mut Seen) -> BTreeSet<Found> {
        let mut found = BTreeSet::new();
        for meaning in names.names.get(name).into_iter().flatten() {
            let here = Found::Item(self.modules[module].file);
            match meaning {
                Meaning::Module(child) => found.extend([Found::Module(*child)]),
                Meaning::Defined => found.extend([here]),
                Meaning::Import(path) if self.is_external(module, blocks, &path[0]) => found.extend([here]),
                Meaning::Import(path) => found.extend(self.follow(module, blocks, path, seen)),
            }
        }
        if found.is_empty() {
            for glob in &names.globs {
                for from in self.follow(module, blocks, glob, seen) {
                    if let Found::Module(from) = from {
                        found.extend(self.member(from, name, seen));
                    }
                }
            }
        }
        found
    }
}

/// Names that are being looked up: ends the lookup of imports that lead back to themselves.
type Seen = BTreeSet<(usize, String)>;

/// Returns the file of module `name` in `folder`, and the folder of its child modules.
fn module_file(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (file, children) = (folder.join(format!("{name}.rs")), folder.join(name));
    if file.is_file() { (file, children) } else { (children.join("mod.rs"), children) }
}
