export async function trading() {}
