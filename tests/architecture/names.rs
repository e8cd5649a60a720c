//! Which file names which: every path of a file, followed to the file that defines what it names.
//!
//! Followed are `use`, globs and re-exports among them, and the paths in items, bodies, attributes
//! and macro calls. Not followed are methods, for a name does not say whose they are, and links in
//! documentation. What a macro defines is found where its module is named, but not through a glob.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, Visibility};

use super::tree::{Files, ModuleId, Tree};

/// A file names what another defines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: String,
    pub to: String,
    pub line: usize,
    pub name: String,
}

/// A file names what is of another crate.
pub struct Foreign {
    pub from: String,
    pub line: usize,
    pub path: String,
}

/// What the files of some crates name. Tests are left out.
#[derive(Default)]
pub struct Names {
    pub arrows: BTreeSet<Arrow>,
    pub foreign: Vec<Foreign>,
    /// Names of a module that has no such thing: this reader did not understand it.
    pub lost: Vec<String>,
}

impl Names {
    /// Reads the crates whose root is in a folder.
    pub fn read(files: &Files, folder: &str) -> Self {
        let mut names = Self::default();
        for tree in Tree::read_all(files, folder) {
            let tests = tree.files();
            for (id, text) in tree.texts.iter().filter(|(id, _)| !tests[tree.modules[*id].file.as_str()]) {
                Reader { tree: &tree, module: *id, names: &mut names }.visit_file(text);
            }
            for (id, module) in tree.modules.iter().enumerate().filter(|(_, module)| !module.is_test) {
                let mut reader = Reader { tree: &tree, module: id, names: &mut names };
                for import in &module.imports {
                    reader.name(import.line, &import.path, import.is_public);
                }
            }
        }
        names
    }
}

/// What a name means: it may be of a module and of an item at once.
#[derive(Clone, Default, PartialEq)]
struct Meaning {
    module: Option<ModuleId>,
    item: Option<(ModuleId, String)>,
    foreign: Option<Vec<String>>,
    /// The module that should have it and does not.
    lost_in: Option<ModuleId>,
}

impl Meaning {
    fn or(self, other: Self) -> Self {
        Self {
            module: self.module.or(other.module),
            item: self.item.or(other.item),
            foreign: self.foreign.or(other.foreign),
            lost_in: self.lost_in.or(other.lost_in),
        }
    }
}

impl Tree {
    /// What a path means in a module. `trail` is what led here, so that a circle of imports ends.
    fn resolve(&self, module: ModuleId, path: &[String], trail: &mut Vec<(ModuleId, String)>) -> Meaning {
        let foreign = || Meaning { foreign: Some(path.to_vec()), ..Meaning::default() };
        let in_module = |module| Meaning { module, ..Meaning::default() };
        let Some((first, mut rest)) = path.split_first() else { return Meaning::default() };
        let mut at = match first.as_str() {
            "" => return foreign(),
            "crate" => in_module(Some(0)),
            "self" => in_module(Some(module)),
            "super" => in_module(self.modules[module].parent),
            name => self.lookup(module, name, trail),
        };
        while let (Some(up), [name, behind @ ..]) = (at.module, rest)
            && name == "super"
        {
            at = in_module(self.modules[up].parent);
            rest = behind;
        }
        if at == Meaning::default() {
            return foreign();
        }
        for name in rest {
            if let Some(inner) = at.module {
                let next = self.lookup(inner, name, trail);
                if next != Meaning::default() {
                    at = next;
                    continue;
                }
            }
            match at {
                // A variant, an associated item.
                Meaning { item: Some(_), .. } => break,
                Meaning { module: Some(inner), .. } if self.modules[inner].has_macros => {
                    return Meaning { item: Some((inner, name.clone())), ..Meaning::default() };
                }
                Meaning { module: Some(inner), .. } => {
                    return Meaning { lost_in: Some(inner), ..Meaning::default() };
                }
                Meaning { foreign: Some(ref mut path), .. } => path.push(name.clone()),
                _ => break,
            }
        }
        at
    }

    fn lookup(&self, id: ModuleId, name: &str, trail: &mut Vec<(ModuleId, String)>) -> Meaning {
        let module = &self.modules[id];
        let item = module.items.contains(name).then(|| (id, name.to_owned()));
        let mut meaning = Meaning { module: module.children.get(name).copied(), item, ..Meaning::default() };
        let step = (id, name.to_owned());
        if trail.contains(&step) {
            return meaning;
        }
        trail.push(step);
        for import in module.imports.iter().filter(|import| import.name.as_deref() == Some(name)) {
            meaning = meaning.or(self.resolve(id, &import.path, trail));
        }
        for glob in module.imports.iter().filter(|import| import.name.is_none()) {
            if meaning != Meaning::default() {
                break;
            }
            if let Some(other) = self.resolve(id, &glob.path, trail).module.filter(|&other| other != id) {
                meaning = self.lookup(other, name, trail);
            }
        }
        meaning
    }
}

/// Walks a file's text.
struct Reader<'a> {
    tree: &'a Tree,
    module: ModuleId,
    names: &'a mut Names,
}

impl Reader<'_> {
    /// Notes what a path leads to.
    fn name(&mut self, line: usize, path: &[String], is_public_use: bool) {
        let meaning = self.tree.resolve(self.module, path, &mut Vec::new());
        self.note(line, path, meaning, is_public_use);
    }

    fn note(&mut self, line: usize, path: &[String], meaning: Meaning, is_public_use: bool) {
        let from = &self.tree.modules[self.module].file;
        if self.tree.test_lines[from].iter().any(|lines| lines.contains(&line)) {
            return;
        }
        if let Some((module, name)) = meaning.item {
            let to = &self.tree.modules[module].file;
            // What a module re-exports from below is its face.
            if to != from && !(is_public_use && self.is_below(module)) {
                self.names.arrows.insert(Arrow { from: from.clone(), to: to.clone(), line, name });
            }
        } else if let Some(path) = meaning.foreign {
            self.names.foreign.push(Foreign { from: from.clone(), line, path: path.join("::") });
        } else if let Some(module) = meaning.lost_in {
            let file = &self.tree.modules[module].file;
            self.names.lost.push(format!("{from}:{line}: {} is not to be found in {file}", path.join("::")));
        }
    }

    fn is_below(&self, module: ModuleId) -> bool {
        let mut at = Some(module);
        while let Some(id) = at.filter(|&id| id != self.module) {
            at = self.tree.modules[id].parent;
        }
        at.is_some()
    }

    /// The paths in tokens that may mean anything. `in_text`: string literals may be paths too.
    fn name_tokens(&mut self, tokens: TokenStream, in_text: bool) {
        let tokens = Vec::from_iter(tokens);
        let is_mark = |at: usize, mark| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == mark);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.name_tokens(group.stream(), in_text),
                TokenTree::Literal(literal) if in_text => {
                    let text = literal.to_string();
                    if let Ok(path) = syn::parse_str::<syn::Path>(text.trim_matches('"')) {
                        self.name(literal.span().start().line, &segments(&path), false);
                    }
                }
                TokenTree::Ident(ident) => {
                    // A field or method, a lifetime, a macro's parameter, another path's rest.
                    let before = |back: usize, mark| at > back && is_mark(at - 1 - back, mark);
                    let is_range = before(1, '.') && before(2, '.');
                    let is_parameter = before(1, '$') && ident != "crate";
                    let is_path = !(before(1, '.') && !is_range || before(1, '\'') || before(1, ':') && before(2, ':'));
                    let mut path = vec![ident.to_string()];
                    while let (true, true, Some(TokenTree::Ident(next))) =
                        (is_mark(at, ':'), is_mark(at + 1, ':'), tokens.get(at + 2))
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if is_path && !is_parameter {
                        self.name(ident.span().start().line, &path, false);
                    }
                }
                _ => {}
            }
        }
    }

    /// A macro that no scope has a name for is one that stands above in the text of a parent.
    fn name_textual_macro(&mut self, line: usize, name: &str) {
        let parent = |&id: &ModuleId| self.tree.modules[id].parent;
        let mut above = std::iter::successors(parent(&self.module), parent);
        if let Some(id) = above.find(|&id| self.tree.modules[id].items.contains(name)) {
            let meaning = Meaning { item: Some((id, name.to_owned())), ..Meaning::default() };
            self.note(line, &[], meaning, false);
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    let start = path.leading_colon.map(|_| String::new());
    start.into_iter().chain(path.segments.iter().map(|segment| segment.ident.to_string())).collect()
}

impl Visit<'_> for Reader<'_> {
    fn visit_path(&mut self, path: &syn::Path) {
        let line = path.segments[0].ident.span().start().line;
        self.name(line, &segments(path), false);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &Macro) {
        let path = segments(&call.path);
        let line = call.path.segments[0].ident.span().start().line;
        self.name(line, &path, false);
        if let [name] = path.as_slice()
            && self.tree.lookup(self.module, name, &mut Vec::new()) == Meaning::default()
        {
            self.name_textual_macro(line, name);
        }
        self.name_tokens(call.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &Attribute) {
        if let Ok(list) = attribute.meta.require_list() {
            let has_paths_in_text = attribute.path().is_ident("serde");
            self.name_tokens(list.tokens.clone(), has_paths_in_text);
        }
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        let child = self.tree.modules[self.module].children.get(&item.ident.to_string());
        if let (Some(_), Some(&inner)) = (&item.content, child) {
            visit::visit_item_mod(&mut Reader { tree: self.tree, module: inner, names: self.names }, item);
        }
    }

    /// Every `use` is among the imports of its module.
    fn visit_item_use(&mut self, _: &ItemUse) {}

    /// `pub(in path)` says who may name it.
    fn visit_visibility(&mut self, _: &Visibility) {}
}
