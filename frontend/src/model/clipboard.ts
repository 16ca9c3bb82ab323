/** Puts text on the clipboard; false where an unsafe context or a refused permission forbids it. */
export async function copy(text: string): Promise<boolean> {
    try {
        await navigator.clipboard.writeText(text)
        return true
    } catch {
        return false
    }
}
