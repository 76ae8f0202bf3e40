export async function endure() {}
