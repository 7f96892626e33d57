<%
# Where people sign in. Besides root, asset and query (see layout.tpl):
#   onward      where they go from here, from the index's root on      user_name   what they wrote already
#   wrong       empty, or what is wrong with it
rebase("layout", title="Sign in")
%>
<h1>Sign in</h1>
% if wrong:
<p class="note" role="alert">{{wrong[:1].upper() + wrong[1:]}}.</p>
% end
<form class="fields" method="post" action="sign-in">
  <input type="hidden" name="next" value="{{onward}}">
  <label for="user">User name</label>
  <input id="user" name="user" value="{{user_name}}" required maxlength="255" autocomplete="username" autocapitalize="none" spellcheck="false"{{"" if user_name else " autofocus"}}>
  <label for="password">Password</label>
  <input id="password" name="password" type="password" required maxlength="1024" autocomplete="current-password"{{" autofocus" if user_name else ""}}>
  <p><button>Sign in</button></p>
</form>
<p class="quiet">It is the name and password that you publish with. The sign-in ends after 12 hours, when you sign out, or with another password.</p>
