
// The list of kept conversations: open one, give it another name, delete it.
class ConversationList {
  // on: {list(), current() -> id, open(id), rename(id, title), remove(id)}
  constructor(root, on) {
    this.root = root;
    this.on = on;
  }

  refresh() {
    const kept = this.on.list();
    byId("history-empty").hidden = kept.length > 0;
    this.root.replaceChildren(...kept.map((conversation) => this.entry(conversation)));
  }

  entry({id, title, at}) {
    const name = title || "Without a title";
    const when = new Date(at).toLocaleString("en", {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false});
    const open = element("button", {type: "button", class: "open"}, element("span", {}, name), element("small", {}, when));
    if (id === this.on.current()) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => this.on.open(id));
    const rename = element("button", {type: "button", class: "plain", "aria-label": `Rename ${name}`}, "Rename");
    const remove = element("button", {type: "button", class: "plain", "aria-label": `Delete ${name}`}, "Delete");
    const entry = element("li", {}, open, element("span", {class: "actions"}, rename, remove));
    rename.addEventListener("click", () => this.rename(entry, id, name));
    remove.addEventListener("click", () => {
      if (remove.dataset.sure) {
        this.on.remove(id);
        return;
      }
      remove.dataset.sure = "yes";
      remove.textContent = "Really?";
      remove.setAttribute("aria-label", `Really delete ${name}`);
    });
    remove.addEventListener("blur", () => {
      delete remove.dataset.sure;
      remove.textContent = "Delete";
      remove.setAttribute("aria-label", `Delete ${name}`);
    });
    return entry;
  }

  rename(entry, id, name) {
    const field = element("input", {type: "text", "aria-label": "Title", maxlength: "120"});
    field.value = name;
    const done = (title) => {
      field.onblur = null;
      if (title) this.on.rename(id, title);
      else this.refresh();
    };
    field.onblur = () => done(field.value.trim());
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      event.stopPropagation();
      done(event.key === "Enter" ? field.value.trim() : "");
    });
    entry.replaceChildren(field);
    field.focus();
    field.select();
  }
}
