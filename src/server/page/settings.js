
// How the model is asked: what stands in the fields, kept in the browser.  The prompt of the system belongs to a conversation.
const kSettingFields = ["temperature", "top-p", "max-tokens", "thinking", "tools"];

class Settings {
  constructor() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem("odmoe-settings")) ?? {};
    } catch {
      // Nothing is kept, or it cannot be read: the page's own values hold.
    }
    for (const id of kSettingFields) {
      if (typeof kept[id] === "string") byId(id).value = kept[id];
      byId(id).addEventListener("change", () => this.keep());
    }
    this.context = 4096;
  }

  keep() {
    try {
      localStorage.setItem("odmoe-settings", JSON.stringify(Object.fromEntries(kSettingFields.map((id) => [id, byId(id).value]))));
    } catch {
      // It holds until the page is closed.
    }
  }

  // An answer may take a quarter of the context where nothing else is said: room for several.
  setContext(context) {
    this.context = context;
    byId("max-tokens").placeholder = String(this.answerTokens());
  }

  answerTokens() {
    return Math.max(1, Math.floor(this.context / 4));
  }

  // What of a request these settings are; an Error says which field is wrong.
  request(converses) {
    const number = (id) => {
      const value = Number.parseFloat(byId(id).value);
      return Number.isFinite(value) ? value : undefined;
    };
    const request = {
      temperature: number("temperature"), top_p: number("top-p"), max_tokens: number("max-tokens") ?? this.answerTokens(),
    };
    if (!converses) return request;
    if (byId("thinking").value) request.chat_template_kwargs = {enable_thinking: byId("thinking").value === "on"};
    const tools = byId("tools").value.trim();
    if (tools) {
      try {
        request.tools = [JSON.parse(tools)].flat();
      } catch (error) {
        throw new Error(`the tools in the settings are not JSON: ${error.message}`);
      }
    }
    return request;
  }
}
