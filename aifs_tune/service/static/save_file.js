// Files that a page lets its reader save.

/** Save a blob as a file. */
export function saveFile(content, filename) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
