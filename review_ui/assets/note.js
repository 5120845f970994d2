/** The dialog in which a note on a sample is written. */

export class NoteDialog {
  /** onSave(sample, text). */
  constructor(part, { onSave }) {
    this.part = part;
    this.onSave = onSave;
    part.noteSave.addEventListener("click", () => this.save());
    part.noteInput.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.save();
    });
  }

  /** The note is about this sample, whatever is shown when it is saved. */
  open(sample) {
    this.sample = sample;
    this.part.noteFile.textContent = sample.file_name;
    this.part.noteInput.value = sample.note ?? "";
    this.part.noteDialog.showModal();
    this.part.noteInput.focus();
  }

  save() {
    this.part.noteDialog.close();
    const text = this.part.noteInput.value.trim();
    if (text !== (this.sample.note ?? "")) this.onSave(this.sample, text);
  }
}
