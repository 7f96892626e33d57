<%
# A form for a new token. Besides root, asset and query (see layout.tpl):
#   form     what was filled in: a dict          chosen     actions and indexes that are ticked
#   rights   actions to choose from              indexes    those to choose from; none where it makes no difference
#   for_others   whether it may be for somebody else, or for nobody         wrong    empty, or what is wrong
rebase("layout", title="Make a token")
%>
<h1>Make a token</h1>
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% end
<form class="fields" method="post">
  <input type="hidden" name="csrf" value="{{csrf}}">
  <label for="name">Name, for example of the program that uses it</label>
  <input id="name" name="name" value="{{form.get("name", "")}}" required maxlength="64" autocomplete="off" autocapitalize="none">
% if for_others:
  <label for="user">User it stands for (leave empty for one with rights of its own)</label>
  <input id="user" name="user" value="{{form.get("user", user)}}" maxlength="255" autocomplete="off" autocapitalize="none">
% end
  <fieldset>
    <legend>What it may do (none ticked: all that its user may)</legend>
% for right in rights:
    <label><input type="checkbox" name="may-{{right}}" value="1"{{!' checked' if right in chosen else ""}}> {{right}}</label>
% end
  </fieldset>
% if indexes:
  <fieldset>
    <legend>In these indexes (none ticked: {{"of your own all these, of others those that you administer" if for_others else "all these"}}; never in one added later)</legend>
%   for name in indexes:
    <label><input type="checkbox" name="index-{{name}}" value="1"{{!' checked' if name in chosen else ""}}> {{name}}</label>
%   end
  </fieldset>
% end
  <label for="projects">For these projects, such as acme-* (empty: all)</label>
  <input id="projects" name="projects" value="{{form.get("projects", "")}}" autocomplete="off" autocapitalize="none">
  <label for="expires">Ends after, such as 90d (empty: never)</label>
  <input id="expires" name="expires" value="{{form.get("expires", "90d")}}" autocomplete="off" autocapitalize="none">
  <p class="buttons"><button>Make the token</button> <a href="{{root}}-/tokens">Go back without it</a></p>
</form>
