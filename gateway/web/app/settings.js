// What the reader chose: palette, light or dark, whether single keys act. Kept in this browser alone.

import { element } from "./dom.js";

const KEPT_AS = "rialto.settings";
const DEFAULTS = { palette: "green-red", theme: "auto", keys: true };

/** @type {{palette: string, theme: string, keys: boolean}} */
export const settings = { ...DEFAULTS };

/** @param {() => void} onColours */
export function startSettings(onColours) {
  try {
    Object.assign(settings, JSON.parse(localStorage.getItem(KEPT_AS) ?? "{}"));
  } catch {
    // Whatever stands there is not ours.
  }
  /** The console has no single keys. */
  const keysOn = element("keys-on");
  const light = matchMedia("(prefers-color-scheme: light)");
  const apply = () => {
    const root = document.documentElement;
    root.dataset.palette = settings.palette;
    root.dataset.theme = settings.theme === "auto" ? (light.matches ? "light" : "dark") : settings.theme;
    element("palette").value = settings.palette;
    element("theme").value = settings.theme;
    if (keysOn) keysOn.checked = settings.keys;
    onColours();
  };
  const keep = () => {
    settings.palette = element("palette").value;
    settings.theme = element("theme").value;
    if (keysOn) settings.keys = keysOn.checked;
    localStorage.setItem(KEPT_AS, JSON.stringify(settings));
    apply();
  };
  for (const field of [element("palette"), element("theme"), keysOn]) field?.addEventListener("change", keep);
  light.addEventListener("change", apply);
  apply();
}
