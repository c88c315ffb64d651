// What the browser keeps: for good or for this tab, under names of our own. Knows no meaning of what is kept.

const PREFIX = "farthing.";

/** Of the browser's two storages, or of one in memory where the browser refuses. `set` is false if there is no room. */
class Kept {
  #storage;

  constructor(open) {
    try {
      this.#storage = open();
      this.#storage.getItem(PREFIX);
    } catch {
      this.#storage = memory();
    }
  }

  get(name) {
    return this.#storage.getItem(PREFIX + name);
  }

  set(name, value) {
    try {
      this.#storage.setItem(PREFIX + name, value);
      return true;
    } catch {
      return false;
    }
  }

  remove(name) {
    this.#storage.removeItem(PREFIX + name);
  }

  /** Names that begin so. */
  names(start) {
    const all = Array.from({ length: this.#storage.length }, (_, number) => this.#storage.key(number));
    return all.filter((name) => name.startsWith(PREFIX + start)).map((name) => name.slice(PREFIX.length));
  }

  /** The value as JSON, or what stands in for one that is missing or broken. */
  value(name, otherwise) {
    try {
      return JSON.parse(this.get(name)) ?? otherwise;
    } catch {
      return otherwise;
    }
  }
}

function memory() {
  const map = new Map();
  return {
    getItem: (name) => map.get(name) ?? null,
    setItem: (name, value) => void map.set(name, value),
    removeItem: (name) => void map.delete(name),
    key: (number) => [...map.keys()][number] ?? null,
    get length() {
      return map.size;
    },
  };
}

export const lasting = new Kept(() => localStorage);
export const ofThisTab = new Kept(() => sessionStorage);

/** The API key: of this tab, unless it is to be remembered. */
export const key = {
  get: () => ofThisTab.get("key") ?? lasting.get("key") ?? "",
  isRemembered: () => lasting.get("key") !== null,
  set(value, remember) {
    ofThisTab.remove("key");
    lasting.remove("key");
    if (value) (remember ? lasting : ofThisTab).set("key", value);
  },
};
