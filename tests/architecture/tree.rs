//! The modules of a crate, read from its text: which file is which, what each defines and imports,
//! and what is a test.
//!
//! A test is what only `#[cfg(test)]` or `#[cfg(loom)]` lets in: a file that is reached through
//! such a `mod`, and the lines of such an item.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Paths from the repository's root, with `/`, and the texts there: from the disk, or planted.
pub type Files = BTreeMap<String, String>;

/// A module's place in [`Tree::modules`].
pub type ModuleId = usize;

/// A module, in a file of its own or inline.
pub struct Module {
    pub file: String,
    pub parent: Option<ModuleId>,
    pub children: BTreeMap<String, ModuleId>,
    /// Names that it defines itself, but for its children.
    pub items: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// A macro may define what its text does not name.
    pub has_macros: bool,
    pub is_test: bool,
}

/// A leaf of a `use`. Those in functions count as the module's.
pub struct Import {
    pub line: usize,
    pub path: Vec<String>,
    /// The name that it brings; none of a glob.
    pub name: Option<String>,
    /// `pub use`, of whatever visibility: others may find the name here.
    pub is_public: bool,
}

/// The modules of one crate, its root first.
pub struct Tree {
    pub modules: Vec<Module>,
    /// The text of each module that has a file.
    pub texts: Vec<(ModuleId, syn::File)>,
    /// Lines of tests in files that are not.
    pub test_lines: BTreeMap<String, Vec<RangeInclusive<usize>>>,
}

impl Tree {
    /// Reads the crate with this root.
    pub fn read(files: &Files, root: &str) -> Self {
        let mut tree = Self { modules: Vec::new(), texts: Vec::new(), test_lines: BTreeMap::new() };
        tree.add_file(files, root, None, true, false);
        tree
    }

    /// The crates with their root in this folder: of a package with library and program, both.
    pub fn read_all<'a>(files: &'a Files, folder: &'a str) -> impl Iterator<Item = Self> + 'a {
        let is_root = |path: &str| path.ends_with("/lib.rs") || path.ends_with("/main.rs");
        let roots = files.keys().filter(move |path| path.starts_with(folder) && is_root(path));
        roots.map(|root| Self::read(files, root))
    }

    /// `is_head`: the files of its children are beside it, not in a folder of its name.
    fn add_file(
        &mut self,
        files: &Files,
        path: &str,
        parent: Option<ModuleId>,
        is_head: bool,
        is_test: bool,
    ) -> ModuleId {
        let tokens: TokenStream = files[path].parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut test_lines = Vec::new();
        find_test_lines(tokens.clone(), &mut test_lines);
        self.test_lines.insert(path.to_owned(), test_lines);
        let text: syn::File = syn::parse2(tokens).unwrap_or_else(|error| panic!("{path}: {error}"));
        let id = self.add_module(path, parent, is_test || is_test_only(&text.attrs));
        let folder = if is_head { folder_of(path) } else { path.trim_end_matches(".rs") };
        self.add_items(files, id, folder, &text.items);
        self.texts.push((id, text));
        id
    }

    fn add_module(&mut self, file: &str, parent: Option<ModuleId>, is_test: bool) -> ModuleId {
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            has_macros: false,
            is_test,
        });
        self.modules.len() - 1
    }

    fn add_items(&mut self, files: &Files, id: ModuleId, folder: &str, items: &[Item]) {
        for item in items {
            match item {
                Item::Mod(child) => self.add_child(files, id, folder, child),
                Item::Macro(item) => {
                    self.modules[id].has_macros = true;
                    self.modules[id].items.extend(item.ident.as_ref().map(ToString::to_string));
                }
                item => self.modules[id].items.extend(name_of(item)),
            }
            if !matches!(item, Item::Mod(_)) {
                let mut uses = Uses(Vec::new());
                uses.visit_item(item);
                self.modules[id].imports.append(&mut uses.0);
            }
        }
    }

    fn add_child(&mut self, files: &Files, parent: ModuleId, folder: &str, child: &ItemMod) {
        let name = child.ident.to_string();
        let is_test = self.modules[parent].is_test || is_test_only(&child.attrs);
        let id = match &child.content {
            Some((_, items)) => {
                let file = self.modules[parent].file.clone();
                let id = self.add_module(&file, Some(parent), is_test);
                self.add_items(files, id, &format!("{folder}/{name}"), items);
                id
            }
            None => {
                let file = &self.modules[parent].file;
                let said = path_attribute(&child.attrs).map(|path| format!("{}/{path}", folder_of(file)));
                let is_said = said.is_some();
                let places = [said.unwrap_or(format!("{folder}/{name}.rs")), format!("{folder}/{name}/mod.rs")];
                let found = places.iter().find(|path| files.contains_key(*path));
                let found = found.unwrap_or_else(|| panic!("{file}: no file of `mod {name}`: {}", places.join(", ")));
                let is_head = is_said || found.ends_with("/mod.rs");
                self.add_file(files, found, Some(parent), is_head, is_test)
            }
        };
        self.modules[parent].children.insert(name, id);
    }

    /// The files that it reaches, each with whether it is a test.
    pub fn files(&self) -> BTreeMap<&str, bool> {
        let mut files = BTreeMap::new();
        for module in &self.modules {
            *files.entry(module.file.as_str()).or_insert(true) &= module.is_test;
        }
        files
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

struct Uses(Vec<Import>);

impl Visit<'_> for Uses {
    fn visit_item_use(&mut self, item: &ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        let start = item.leading_colon.map(|_| String::new());
        flatten(&item.tree, &Vec::from_iter(start), is_public, &mut self.0);
    }
}

fn flatten(tree: &UseTree, before: &[String], is_public: bool, found: &mut Vec<Import>) {
    let with = |ident: &syn::Ident| before.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
    let line = tree.span().start().line;
    let mut leaf = |path: Vec<String>, name| found.push(Import { line, path, name, is_public });
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), is_public, found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, is_public, found)),
        UseTree::Glob(_) => leaf(before.to_vec(), None),
        UseTree::Name(name) if name.ident == "self" => leaf(before.to_vec(), before.last().cloned()),
        UseTree::Name(name) => leaf(with(&name.ident), Some(name.ident.to_string())),
        UseTree::Rename(rename) if rename.ident == "self" => leaf(before.to_vec(), Some(rename.rename.to_string())),
        UseTree::Rename(rename) => leaf(with(&rename.ident), Some(rename.rename.to_string())),
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let value =
        attributes.iter().find(|attribute| attribute.path().is_ident("path"))?.meta.require_name_value().ok()?;
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &value.value else { return None };
    Some(path.value())
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg") && list.is_ok_and(|list| needs_test(list.tokens.clone()))
    })
}

/// Whether a condition holds in tests alone: `test`, `loom`, `all` of which one is such, `any` of
/// which each is.
fn needs_test(condition: TokenStream) -> bool {
    let tokens = Vec::from_iter(condition);
    match tokens.as_slice() {
        [TokenTree::Ident(name)] => name == "test" || name == "loom",
        [TokenTree::Ident(name), TokenTree::Group(group)] => {
            let inner = Vec::from_iter(group.stream());
            let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
            let mut parts = inner.split(is_comma).filter(|part| !part.is_empty());
            let is_test = |part: &[TokenTree]| needs_test(part.iter().cloned().collect());
            if name == "all" { parts.any(is_test) } else { name == "any" && parts.all(is_test) }
        }
        _ => false,
    }
}

/// The lines of what `#[cfg(test)]` and `#[test]` stand before: up to a `;`, a block, or a comma
/// between fields.
fn find_test_lines(tokens: TokenStream, found: &mut Vec<RangeInclusive<usize>>) {
    let tokens = Vec::from_iter(tokens);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let TokenTree::Group(group) = token else { continue };
        let is_attribute = at >= 2 && matches!(&tokens[at - 2], TokenTree::Punct(mark) if mark.as_char() == '#');
        if !is_attribute || !is_of_test(group.stream()) {
            find_test_lines(group.stream(), found);
            continue;
        }
        let is_use = tokens[at..].iter().take(4).any(|token| matches!(token, TokenTree::Ident(word) if word == "use"));
        let (mut angles, mut before) = (0, ' ');
        let end = tokens[at..].iter().position(|token| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_use,
            TokenTree::Punct(mark) => {
                let mark = mark.as_char();
                angles += i32::from(mark == '<') - i32::from(mark == '>' && !['-', '='].contains(&before));
                before = mark;
                mark == ';' || mark == ',' && angles <= 0
            }
            _ => false,
        });
        let last = end.map_or(tokens.len() - 1, |end| at + end);
        found.push(group.span().start().line..=tokens[last].span().end().line);
        at = last + 1;
    }
}

fn is_of_test(attribute: TokenStream) -> bool {
    match Vec::from_iter(attribute).as_slice() {
        [TokenTree::Ident(name)] => name == "test",
        [TokenTree::Ident(name), TokenTree::Group(group)] => name == "cfg" && needs_test(group.stream()),
        _ => false,
    }
}
