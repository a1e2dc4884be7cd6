// What changes something. The token is kept in a field of this tab, and goes only where something is changed.

import { byId, el } from "./dom.js";

// Sends a change; resolves to the answer, or throws what to tell the reader.
export const change = async (path, body) => {
  const token = byId("token").value;
  if (!token) {
    byId("token").focus();
    throw new Error("type the admin token first");
  }
  const answer = await fetch(path, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
    redirect: "error",
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error ?? `the predictor answers ${answer.status}`);
  return said;
};

export const tell = (text, isBad = false) => {
  const place = byId("change-result");
  place.textContent = text;
  place.className = isBad ? "warning" : "good";
};

// Asks before something is done; resolves to what was typed as the reason, or null.
export const ask = (question, { wantsReason = false } = {}) =>
  new Promise((resolve) => {
    const reason = el("input", { id: "reason", type: "text", maxlength: 500, autocomplete: "off" });
    const dialog = el("dialog", { "aria-label": question },
      el("form", { method: "dialog" },
        el("p", {}, question),
        wantsReason ? [el("label", { for: "reason" }, "Why"), reason] : [],
        el("div", { class: "row end" },
          el("button", { type: "button", class: "quiet", onclick: () => dialog.close("no") }, "Leave it"),
          el("button", { type: "button", class: "go", onclick: () => dialog.close("yes") }, "Do it"))));
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target === reason) {
        event.preventDefault();
        dialog.close("yes");
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? reason.value : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });

export const watchChangeForm = (refresh) => {
  byId("change-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const arm = byId("arm-choice").value;
    const reset = byId("reset").checked;
    const sure = await ask(`Put the arm ${arm} in force${reset ? ", and forget what was learnt online" : ""}?`);
    if (sure == null) return;
    try {
      const said = await change(byId("change-form").dataset.path, { arm, reset });
      tell(`✓ ${said.arm} is in force.`);
      refresh();
    } catch (error) {
      tell(`! Nothing was changed: ${error.message}`, true);
    }
  });
};

export const drawChange = ({ controls, status }) => {
  const form = byId("change-form");
  form.hidden = !controls.set_arm;
  form.dataset.path = controls.set_arm ?? "";
  byId("change-note").replaceChildren(...(controls.set_arm
    ? ["Reading needs no token; changing does."]
    : ["This page only reads: the predictor has no admin token. ", el("code", {}, "admin_token_file"), " in its configuration names one."]));
  const choice = byId("arm-choice");
  if (choice.options.length !== controls.arms.length) {
    choice.replaceChildren(...controls.arms.map((arm) => el("option", { value: arm, selected: arm === status.arm }, arm)));
  }
};
